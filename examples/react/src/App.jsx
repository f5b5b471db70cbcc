import { useHandleSignInCallback, useLogto } from '@logto/react';
import { useState } from 'react';

import { api } from './config.js';

const { origin, pathname } = window.location;

export default function App() {
  return (
    <main>
      <h1>React and FastAPI</h1>
      {pathname === '/callback' ? <Callback /> : <Home />}
    </main>
  );
}

// Logto redirects here after the sign-in.
function Callback() {
  const { error } = useHandleSignInCallback(() => window.location.replace('/'));
  if (!error) return <p>Signing in…</p>;
  return (
    <p role="alert">
      {error.message}. <a href="/">Try again</a>
    </p>
  );
}

function Home() {
  const { isAuthenticated, isLoading, error, ...logto } = useLogto();
  const [result, setResult] = useState(null);

  async function call(method, path) {
    // The SDK caches the token, and refreshes it when it has expired. Without the
    // resource, Logto would issue an opaque token, which the API rejects.
    const token = await logto.getAccessToken(api.resource);
    if (!token) return; // `error` says why.
    try {
      const response = await fetch(api.url + path, {
        method,
        headers: { Authorization: `Bearer ${token}` },
      });
      setResult({ status: response.status, body: await response.json() });
    } catch {
      // The API is not running, or CORS does not allow this origin.
      setResult({ body: `expected a response from ${api.url}, found none` });
    }
  }

  if (error) return <p role="alert">{error.message}</p>;
  if (isLoading && !isAuthenticated) return <p>Loading…</p>;
  if (!isAuthenticated) {
    const signIn = () => logto.signIn(`${origin}/callback`);
    return <button onClick={signIn}>Sign in</button>;
  }
  return (
    <>
      <div className="buttons">
        <button onClick={() => call('GET', '/user/info')}>Who am I?</button>
        <button onClick={() => call('POST', '/visits')}>Count my visit</button>
        <button onClick={() => logto.signOut(`${origin}/`)}>Sign out</button>
      </div>
      {result && <Result {...result} />}
    </>
  );
}

function Result({ status, body }) {
  if (!status) return <p role="alert">{body}</p>;
  // A rejected request has a code for programs, and a message for developers.
  if (body.detail?.code) {
    const { code, message } = body.detail;
    return (
      <p role="alert">
        {status} <code>{code}</code>: {message}
      </p>
    );
  }
  return <pre role="status">{JSON.stringify(body, null, 2)}</pre>;
}
