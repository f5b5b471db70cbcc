"""Check the key set: which keys can verify tokens, and why the others can't."""

from fastapi_logto.cli.results import Check
from fastapi_logto.provider.aws_lc import load_aws_lc
from fastapi_logto.provider.key_set import PublicKey, UnusableKeyError, parse_key
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonValue


def check_keys(entries: list[JsonValue], settings: LogtoSettings) -> list[Check]:
    """Return a row for the key set, one for each key, and one for the library that verifies with the usable ones."""
    keys: list[PublicKey] = []
    rows: list[Check] = []
    for entry in entries:
        try:
            key = parse_key(entry, algorithms=settings.algorithms)
        except UnusableKeyError as error:
            advice = _explain_unusable(entry, settings)
            rows.append(Check(name="Key", status="warning", found=f"{_describe_key(entry)}: {error}", advice=advice))
        else:
            keys.append(key)
            found = f"{_describe_key(entry)}, for {', '.join(sorted(key.algorithms))}"
            rows.append(Check(name="Key", status="ok", found=found))
    accepted = ", ".join(settings.algorithms)
    summary = Check(
        name="Key set",
        status="ok" if keys else "failed",
        found=f"{len(keys)} of {len(entries)} keys usable with {accepted}",
        advice="" if keys else f"Add the algorithm of the tenant's key to LOGTO_ALGORITHMS, which is {accepted}.",
    )
    return [summary, *rows, *([_describe_backend(keys)] if keys else [])]


def _describe_key(entry: JsonValue) -> str:
    if not isinstance(entry, dict):
        return "unknown key"
    kty, modulus, kid = entry.get("kty"), entry.get("n"), entry.get("kid")
    if kty == "RSA" and isinstance(modulus, str):
        kind = f"RSA, about {len(modulus) * 6 // 64 * 64} bits"
    else:
        kind = f"{_word(kty)} {_word(entry.get('crv'))}"
    return f"{kind}, kid {quote(kid[:12])[1:-1] if isinstance(kid, str) else 'absent'}"


def _word(value: JsonValue) -> str:
    return quote(value)[1:-1] if isinstance(value, str) else "?"


def _explain_unusable(entry: JsonValue, settings: LogtoSettings) -> str:
    algorithm = entry.get("alg") if isinstance(entry, dict) else None
    if isinstance(algorithm, str) and algorithm not in settings.algorithms:
        return f"If the tenant signs with it, add {quote(algorithm)[1:-1]} to LOGTO_ALGORITHMS."
    return "Tokens signed with this key are rejected. Rotate the key in the console: Tenant settings, Signing keys."


def _describe_backend(keys: list[PublicKey]) -> Check:
    if any(key.aws_lc is not None for key in keys):
        return Check(name="Signatures", status="ok", found="AWS-LC for P-384, OpenSSL for other keys")
    found = "OpenSSL"
    if load_aws_lc() is None and any("ES384" in key.algorithms for key in keys):
        found += '; pip install "fastapi-logto[aws-lc]" halves the time to verify ES384'
    return Check(name="Signatures", status="ok", found=found)
