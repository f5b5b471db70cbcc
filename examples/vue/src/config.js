// The defaults are those of `fastapi-logto dev`. For a tenant, set the variables in
// the file `.env.local`. Vite replaces them in the code.
export const api = {
  url: import.meta.env.VITE_API_URL ?? 'http://127.0.0.1:8000',
  // Exactly the audience of the API. In Logto, it is called API identifier.
  resource: import.meta.env.VITE_API_RESOURCE ?? 'https://api.example.test',
};

export const logto = {
  endpoint: import.meta.env.VITE_LOGTO_ENDPOINT ?? 'http://127.0.0.1:3001',
  appId: import.meta.env.VITE_LOGTO_APP_ID ?? 'local-spa',
  resources: [api.resource],
  scopes: ['read:user', 'write:user'],
};
