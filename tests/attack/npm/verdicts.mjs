// Reads JSON values, one per line. The first has the options; then an object sets another key set, and a string is a
// token. For each token it writes an object with the verdict of each verifier: true, false or the name of an exception
// that the verifier does not document.
import { createInterface } from "node:readline";
import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, jwtVerify } from "jose";
import { MCPAuth } from "mcp-auth";

// They warn about their configuration, but a program reads the output of this process.
console.warn = () => {};

const lines = createInterface({ input: process.stdin, crlfDelay: Infinity })[Symbol.asyncIterator]();
const options = JSON.parse((await lines.next()).value);
const { issuer, audience, requiredClaims, algorithms, typ, clockTolerance } = options;
const currentDate = new Date(options.now * 1000);
const keysUrl = new URL(`${issuer}/jwks`);

const isDocumented = (error) => error instanceof errors.JOSEError;

async function judge(verify) {
  try {
    await verify();
    return true;
  } catch (error) {
    return isDocumented(error) ? false : error.name;
  }
}

// `jose` with every option that this package also has.
function buildStrict(text) {
  const checks = { issuer, audience, requiredClaims, algorithms, typ, clockTolerance, currentDate };
  let findKey;
  try {
    findKey = createLocalJWKSet(JSON.parse(text));
  } catch (error) {
    return () => judge(() => Promise.reject(error instanceof SyntaxError ? new errors.JWKSInvalid() : error));
  }
  return (token) => judge(() => jwtVerify(token, findKey, checks));
}

// Logto's guides protect an API with `jose` and two options.
function buildGuide(text) {
  const findKey = createRemoteJWKSet(keysUrl, serve(text));
  return (token) => judge(() => jwtVerify(token, findKey, { issuer, audience, currentDate }));
}

// Logto's middleware for MCP servers, on Express.
function buildMiddleware(text) {
  const metadata = {
    issuer,
    authorizationEndpoint: `${issuer}/auth`,
    tokenEndpoint: `${issuer}/token`,
    jwksUri: keysUrl.href,
    responseTypesSupported: ["code"],
    codeChallengeMethodsSupported: ["S256"],
  };
  const authorizationServers = [{ type: "oidc", metadata }];
  const auth = new MCPAuth({ protectedResources: [{ metadata: { resource: audience, authorizationServers } }] });
  const checks = { resource: audience, audience, remoteJwkSet: serve(text), jwtVerify: { currentDate } };
  const middleware = auth.bearerAuth("jwt", checks);
  return async (token) => {
    let accepts = false;
    const response = { set: () => response, status: () => response, json: () => response };
    try {
      await middleware({ headers: { authorization: `Bearer ${token}` } }, response, () => (accepts = true));
    } catch (error) {
      return error.name;
    }
    return accepts;
  };
}

function serve(text) {
  return { [customFetch]: async () => new Response(text, { headers: { "content-type": "application/json" } }) };
}

let verifiers;
for await (const line of lines) {
  const value = JSON.parse(line);
  if (typeof value === "object") {
    const text = value.keySet;
    verifiers = { jose: buildStrict(text), "Logto's guide": buildGuide(text), "mcp-auth": buildMiddleware(text) };
    continue;
  }
  const verdicts = await Promise.all(Object.values(verifiers).map((verify) => verify(value)));
  const named = Object.keys(verifiers).map((name, position) => [name, verdicts[position]]);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(named))}\n`);
}
