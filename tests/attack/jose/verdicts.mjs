// Reads a line of options, then tokens as JSON strings, one a line; writes for each 1 if jose accepts it, or 0.
import { createInterface } from "node:readline";
import { createLocalJWKSet, jwtVerify, errors } from "jose";

const lines = createInterface({ input: process.stdin, crlfDelay: Infinity })[Symbol.asyncIterator]();
const { jwks, now, ...options } = JSON.parse((await lines.next()).value);
const findKey = createLocalJWKSet(jwks);
const checks = { ...options, currentDate: new Date(now * 1000) };

for await (const line of lines) {
  let verdict = "1";
  try {
    await jwtVerify(JSON.parse(line), findKey, checks);
  } catch (error) {
    // An exception that jose does not document counts as a refusal, and is named.
    verdict = error instanceof errors.JOSEError ? "0" : `0 ${error.name}`;
  }
  process.stdout.write(`${verdict}\n`);
}
