// The OpenID Connect server that Logto is built on, with Logto's configuration, on loopback only.
//
//   node server.mjs [port]      (or PORT; 0 or nothing selects a free one)
//
//   JWKS           private JSON Web Key Set to sign with; the first key of each type signs, all are published.
//                  Without it, new keys are created at each start.
//   REDIRECT_URIS  further redirect URIs of the client `spa`, separated by spaces.
//
// Prints one line of JSON with the issuer when it listens, and ends when its standard input closes.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

// oidc-provider warns at import that Node 20 is old, and later that its store is in memory, as intended here.
console.warn = () => {};
const { Provider, errors } = await import('oidc-provider');
// A dependency of oidc-provider.
const { calculateJwkThumbprint, createLocalJWKSet, jwtVerify } = await import('jose');

const PREFIX = '/oidc';
const HOUR = 3600;
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const SCOPES = ['read:user', 'write:user'];

const RESOURCES = {
  'https://api.example.test': { alg: 'ES384', ttl: HOUR },
  'https://rsa.example.test': { alg: 'RS256', ttl: HOUR },
  'https://shortlived.example.test': { alg: 'ES384', ttl: 1 },
};

const ACCOUNTS = {
  alice: SCOPES,
  bob: ['read:user'],
  carol: [],
};

function generateKeys() {
  const pairs = [
    generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ];
  return { keys: pairs.map(({ privateKey }) => privateKey.export({ format: 'jwk' })) };
}

function isLoopback(origin) {
  const { protocol, hostname } = URL.parse(origin) ?? {};
  return protocol === 'http:' && ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
}

function getResourceServerInfo(ctx, indicator) {
  // Own properties only, compared as plain strings: in Logto, a trailing slash makes another resource.
  if (!Object.hasOwn(RESOURCES, indicator)) throw new errors.InvalidTarget();
  const { alg, ttl } = RESOURCES[indicator];
  return {
    audience: indicator,
    scope: SCOPES.join(' '),
    accessTokenTTL: ttl,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg } },
  };
}

function defaultResource(ctx, client, oneOf) {
  // Logto issues no token to a machine without a resource; oidc-provider alone would issue an opaque one.
  if (ctx.oidc.params.grant_type === 'client_credentials') throw new errors.InvalidTarget();
  return oneOf;
}

function findAccount(ctx, id) {
  if (!Object.hasOwn(ACCOUNTS, id)) return undefined;
  return { accountId: id, claims: () => ({ sub: id, username: id, email: `${id}@example.test`, email_verified: true }) };
}

// oidc-provider drops an empty scope. Logto keeps `""` in the tokens of users, and drops it in those of machines.
function keepEmptyScopeOfUsers(ctx, token, { payload }) {
  if (token.accountId) payload.scope ??= '';
}

function configuration() {
  return {
    jwks: process.env.JWKS ? JSON.parse(process.env.JWKS) : generateKeys(),
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES384'] },
    clientDefaults: { id_token_signed_response_alg: 'ES384' },
    clients: [
      {
        client_id: 'machine',
        client_secret: 'machine-secret',
        grant_types: ['client_credentials', EXCHANGE],
        redirect_uris: [],
        response_types: [],
      },
      {
        client_id: 'spa',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: [
          'http://127.0.0.1:8000/docs/oauth2-redirect',
          ...(process.env.REDIRECT_URIS ?? '').split(' ').filter(Boolean),
        ],
      },
      // As Logto registers a traditional web application.
      {
        client_id: 'web',
        client_secret: 'web-secret',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: ['http://127.0.0.1:8000/docs/oauth2-redirect'],
      },
      // As Logto registers a native application, without and with device flow.
      {
        client_id: 'native',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: ['http://127.0.0.1/callback'],
      },
      {
        client_id: 'device',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        grant_types: [DEVICE_CODE, 'refresh_token'],
        response_types: [],
        redirect_uris: [],
      },
    ],
    scopes: ['openid', 'offline_access', 'profile', 'email'],
    claims: { openid: ['sub'], profile: ['username'], email: ['email', 'email_verified'] },
    // As with Logto, the ID token has the claims even if there is an access token for `/oidc/me`.
    conformIdTokenClaims: false,
    cookies: { keys: ['test only'] },
    clientBasedCORS: (ctx, origin) => isLoopback(origin),
    extraTokenClaims: () => undefined,
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      // Any client with a secret may introspect the tokens of every other client.
      introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientAuthMethod !== 'none' },
      revocation: { enabled: true },
      deviceFlow: {
        enabled: true,
        userCodeInputSource: (ctx, form) => { ctx.body = form; },
        userCodeConfirmSource: (ctx, form) => { ctx.body = form; },
        successSource: (ctx) => { ctx.body = 'signed in'; },
      },
      dPoP: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource,
        getResourceServerInfo,
        // A token request without a resource gets an opaque token if its scope has `openid`.
        useGrantedResource: () => false,
      },
    },
    findAccount,
    formats: { customizers: { jwt: keepEmptyScopeOfUsers } },
    interactions: { url: (ctx, { uid }) => `/interaction/${uid}` },
    // The defaults of oidc-provider print a notice at their first use.
    ttl: {
      AccessToken: (ctx, token) => token.resourceServer?.accessTokenTTL ?? HOUR,
      ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL ?? HOUR,
      DeviceCode: 600,
      IdToken: HOUR,
      RefreshToken: 14 * 24 * HOUR,
      Interaction: HOUR,
      Session: HOUR,
      Grant: 14 * 24 * HOUR,
    },
    renderError: (ctx, out) => {
      ctx.type = 'json';
      ctx.body = out;
    },
  };
}

// oidc-provider has no token exchange (RFC 8693). Logto registers its own, and so does this server.
function registerExchange(provider, keys) {
  const publish = async ({ kty, crv, x, y, n, e }) => {
    const key = { kty, crv, x, y, n, e };
    return { ...key, kid: await calculateJwkThumbprint(key) };
  };
  const keySet = Promise.all(keys.map(publish)).then((published) => createLocalJWKSet({ keys: published }));
  const parameters = ['subject_token', 'subject_token_type', 'resource', 'scope'];

  provider.registerGrantType(EXCHANGE, async (ctx) => {
    const { subject_token: subject, subject_token_type: type, resource, scope } = ctx.oidc.params;
    if (!subject || type !== ACCESS_TOKEN) throw new errors.InvalidGrant('subject token');
    const { payload } = await jwtVerify(subject, await keySet, { issuer: provider.issuer, typ: 'at+jwt' }).catch((error) => {
      throw new errors.InvalidGrant('subject token', error.message);
    });
    // A machine has no account, and its token is not a subject token.
    if (!findAccount(ctx, payload.sub)) throw new errors.InvalidGrant('subject token');
    const target = new provider.ResourceServer(resource, getResourceServerInfo(ctx, resource));
    const held = (scope ?? '').split(' ').filter((name) => ACCOUNTS[payload.sub].includes(name)).join(' ');
    const token = new provider.AccessToken({
      accountId: payload.sub, client: ctx.oidc.client, gty: 'token_exchange', scope: held || undefined,
    });
    token.resourceServer = target;
    ctx.oidc.entity('AccessToken', token);
    const value = await token.save();
    ctx.body = { access_token: value, expires_in: token.expiration, token_type: token.tokenType, scope: held };
  }, parameters);
}

async function grantAll(provider, { params }, login) {
  const grant = new provider.Grant({ accountId: login, clientId: params.client_id });
  const requested = (params.scope ?? '').split(' ');
  grant.addOIDCScope(requested.filter((scope) => !SCOPES.includes(scope)).join(' '));
  for (const resource of [params.resource ?? []].flat()) {
    const held = requested.filter((scope) => ACCOUNTS[login].includes(scope));
    const missing = requested.filter((scope) => SCOPES.includes(scope) && !held.includes(scope));
    if (held.length) grant.addResourceScope(resource, held.join(' '));
    // A scope that was neither granted nor rejected would make the server ask for consent again.
    if (missing.length) grant.rejectResourceScope(resource, missing.join(' '));
  }
  return grant.save();
}

// Signs in without a password: `login_hint` in the authorization request, or a form with one field, `login`.
async function interact(provider, req, res) {
  const details = await provider.interactionDetails(req, res);
  let login = details.params.login_hint;
  if (req.method === 'POST') {
    let form = '';
    for await (const chunk of req) form += chunk;
    login = new URLSearchParams(form).get('login');
  }
  if (!login) {
    res.setHeader('Content-Type', 'text/html; charset=utf-8');
    res.end('<!doctype html><title>Sign in</title><form method="post"><input name="login" autofocus><button>Sign in</button></form>');
    return;
  }
  const result = Object.hasOwn(ACCOUNTS, login)
    ? { login: { accountId: login }, consent: { grantId: await grantAll(provider, details, login) } }
    : { error: 'access_denied', error_description: 'no such account' };
  await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
}

async function answer(provider, handle, req, res) {
  const { pathname } = new URL(req.url, provider.issuer);
  if (pathname.startsWith(`${PREFIX}/`)) {
    // oidc-provider derives its endpoints in the discovery document from the difference of `originalUrl` and `url`,
    // and their host from the request, as in Logto.
    req.originalUrl = req.url;
    req.url = req.url.slice(PREFIX.length);
    if (pathname === `${PREFIX}/jwks`) res.setHeader('Cache-Control', 'no-cache, max-age=0, must-revalidate');
    await handle(req, res);
  } else if (pathname.startsWith('/interaction/')) {
    await interact(provider, req, res);
  } else {
    res.statusCode = 404;
    res.end();
  }
}

const server = createServer();
server.listen(Number(process.argv[2] ?? process.env.PORT ?? 0), '127.0.0.1', () => {
  // The issuer contains the port, so the provider can be created only now.
  const issuer = `http://127.0.0.1:${server.address().port}${PREFIX}`;
  const settings = configuration();
  const provider = new Provider(issuer, settings);
  registerExchange(provider, settings.jwks.keys);
  provider.on('server_error', (ctx, error) => console.error(error));
  const handle = provider.callback();
  server.on('request', (req, res) => {
    answer(provider, handle, req, res).catch((error) => {
      res.statusCode = error.statusCode ?? 500;
      res.end(`${error.message}\n`);
    });
  });
  console.log(JSON.stringify({ issuer }));
});

// The parent process holds the other end of standard input, so this process can't outlive it.
const end = () => process.exit(0);
process.stdin.on('end', end).on('error', end).resume();
process.on('SIGTERM', end);
