"""Every row of the attack tables and of Wycheproof's files, sent as a request to a FastAPI application."""

import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

from joserfc.jwk import OKPKey, import_key

from fastapi_logto.settings import SettingsArguments
from tests.attack.asgi import Reply, send
from tests.attack.provider import Provider, build_app, build_auth
from tests.attack.report import Tally
from tests.vectors.authorization import AUTHORIZATION_ROWS, LONGEST_READ
from tests.vectors.forge import Forge, build_claims_set, dump
from tests.vectors.headers import HEADER_ROWS
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.rows import HEADER_FORMAT, TOO_LARGE, AuthorizationRow, PayloadRow, Refusal, TokenRow
from tests.vectors.tokens import TOKEN_ROWS
from tests.wycheproof import WYCHEPROOF_FILES, is_symmetric, list_entries, read_groups

_KeyType = Literal["EC", "OKP", "RSA"]
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_SHORTEST_SECRET: Final = 16
_LOGGER: Final = "fastapi_logto"
# The token in `AUTHORIZATION_ROWS`, which is replaced by a valid one.
_PLACEHOLDER: Final = "eyJhbGciOiJFUzM4NCJ9.e30.c2ln"
# RFC 9110 sections 5.5 and 11.4: white space around a token in a header is not part of it, so the token is valid.
_GOOD_IN_A_HEADER: Final = frozenset({"space at the start", "space at the end", "tab at the end"})
_EVERY_ALGORITHM: Final = SettingsArguments(
    algorithms=("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"),
    token_types=("absent", "at+jwt"),
    required_claims=(),
)
_KEYS_IN_A_SET: Final = 90
_JWS_FILES: Final = ("json_web_key_test.json", "json_web_signature_test.json")
_SIGNATURE_FILES: Final[dict[str, tuple[str, _KeyType]]] = {
    "ecdsa_secp256r1_sha256_p1363_test.json": ("ES256", "EC"),
    "ecdsa_secp384r1_sha384_p1363_test.json": ("ES384", "EC"),
    "ed25519_test.json": ("EdDSA", "OKP"),
    "rsa_signature_2048_sha256_test.json": ("RS256", "RSA"),
}
# A token with a valid signature fails because its payload is not a claims set.
_AFTER_THE_SIGNATURE: Final = frozenset({"claims", "issuer", "audience", "expired", "not_yet_valid", "inactive"})


class _Lines(logging.Handler):
    """Formats each log record and keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n"


@contextmanager
def _read_log() -> Generator[_Lines]:
    logger, lines = logging.getLogger(_LOGGER), _Lines()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)


def _find_problem(reply: Reply, refusal: Refusal | None) -> str | None:
    """Return what differs from the expected response, without quoting the request."""
    found = (reply.status, reply.detail.get("code"), reply.detail.get("reason"))
    expected = (200, None, None) if refusal is None else (refusal.status, refusal.code, refusal.reason)
    if found != expected:
        return f"expected {expected}, found {found}, raised {reply.raised}"
    if refusal is not None and not reply.headers.get("www-authenticate", "").startswith("Bearer"):
        return "a refusal without a challenge"
    return None


def _find_echo(token: str, *texts: str) -> str | None:
    """Return the part of a token that a text repeats."""
    _, _, rest = token.partition(".")
    payload, _, signature = rest.partition(".")
    parts = {"token": token, "payload": payload, "signature": signature}
    for name, part in parts.items():
        if len(part) >= _SHORTEST_SECRET and any(part in text for text in texts):
            return f"the response or the log repeats the {name}"
    return None


def _expect(row: TokenRow | PayloadRow, token: str) -> Refusal | None:
    if row.id in _GOOD_IN_A_HEADER:
        return None
    # RFC 9110 section 11.2: a header can only have a token68, so other texts are refused as a malformed header.
    if row.refused is None or _TOKEN68.fullmatch(token):
        return row.refused
    return TOO_LARGE if len(f"Bearer {token}") > LONGEST_READ else HEADER_FORMAT


async def run_token_rows(
    tally: Tally, forge: Forge, *, rows: Sequence[TokenRow | PayloadRow] = (*HEADER_ROWS, *TOKEN_ROWS, *PAYLOAD_ROWS)
) -> None:
    """Send every row of headers, tokens and payloads; an accepted one twice, the second time from the cache."""
    for row in rows:
        token = forge.with_payload(row.payload) if isinstance(row, PayloadRow) else row.change(forge)
        header = f"Bearer {token}".encode("utf-8", "surrogatepass")
        app = build_app(build_auth(Provider(forge.jwks()), changes=row.settings))
        expected = _expect(row, token)
        for _ in range(2 if expected is None else 1):
            with _read_log() as lines:
                reply = await send(app, "/claims", authorization=[header])
            shown = (reply.body.decode("utf-8", "replace"), repr(reply.headers), lines.text)
            tally.count(row.id, _find_problem(reply, expected) or _find_echo(token, *shown))


async def run_authorization_rows(tally: Tally, forge: Forge) -> None:
    """Send every row of `Authorization` headers, with a valid token in place of the rows' own."""
    app = build_app(build_auth(Provider(forge.jwks())))
    good = forge.good()
    for row in AUTHORIZATION_ROWS:
        values = [value.replace(_PLACEHOLDER, good).encode("utf-8", "surrogatepass") for value in row.values]
        reply = await send(app, "/claims", authorization=values)
        tally.count(row.id, _find_header_problem(row, reply))


def _find_header_problem(row: AuthorizationRow, reply: Reply) -> str | None:
    if row.refused is not None or row.token == _PLACEHOLDER:
        return _find_problem(reply, row.refused)
    # The header is well formed, and its token is invalid.
    found = (reply.status, reply.detail.get("code"))
    return None if found == (401, "invalid_token") else f"expected a 401 invalid_token, found {found}"


async def run_wycheproof(tally: Tally, forge: Forge) -> None:
    """Send every vector. None is a token for this API, so each gets a 401 with the expected reason."""
    for name in WYCHEPROOF_FILES:
        before = tally.rows
        if name in _JWS_FILES:
            await _run_jws(tally, name)
        else:
            await _run_signatures(tally, name, forge)
        if tally.rows == before:
            tally.fail(f"{name}: no vector ran")


async def _run_jws(tally: Tally, name: str) -> None:
    for group in read_groups(name):
        entries = list_entries(group)
        if all(entry["kty"] != "OKP" for entry in entries):
            # A set without a usable key would be an outage, and the token would not be checked.
            entries = [*entries, OKPKey.generate_key("Ed25519").as_dict(private=False) | {"alg": "EdDSA"}]
        for vector in group["tests"]:
            # One application for each, because after one unknown key ID the next ones may get a 503.
            app = build_app(build_auth(Provider({"keys": entries}), changes=_EVERY_ALGORITHM))
            reply = await send(app, "/claims", authorization=[_write(vector["jws"])])
            must_hold = vector["result"] == "valid" and not is_symmetric(group)
            tally.count(f"{name} {vector['tcId']}", _find_jws_problem(reply, must_hold=must_hold))


def _write(jws: object) -> bytes:
    return f"Bearer {jws}".encode("utf-8", "surrogatepass")


def _find_jws_problem(reply: Reply, *, must_hold: bool) -> str | None:
    reason = reply.detail.get("reason", "")
    if (reply.status, reply.raised) != (401, None):
        return f"expected 401, found {reply.status}, raised {reply.raised}"
    # The unit tests assert which vectors have a valid signature. Here an invalid one must not reach the claims.
    if not must_hold and reason in _AFTER_THE_SIGNATURE:
        return f"an invalid signature got as far as {reason}"
    return None


async def _run_signatures(tally: Tally, name: str, forge: Forge) -> None:
    alg, kty = _SIGNATURE_FILES[name]
    numbered = list(enumerate(read_groups(name)))
    for start in range(0, len(numbered), _KEYS_IN_A_SET):
        batch = numbered[start : start + _KEYS_IN_A_SET]
        keys = [_publish(group, kty, kid=f"vector-{number}", alg=alg) for number, group in batch]
        app = build_app(build_auth(Provider({"keys": keys}), changes=_EVERY_ALGORITHM))
        for number, group in batch:
            head = _encode(dump(forge.header(alg=alg, kid=f"vector-{number}")))
            start_of_token = f"{head}.{_encode(dump(build_claims_set()))}"
            for vector in group["tests"]:
                signature = _encode(bytes.fromhex(vector["sig"]))
                reply = await send(app, "/claims", authorization=[f"Bearer {start_of_token}.{signature}".encode()])
                # None signs these claims. A compact JWS has no empty segment.
                expected = (401, "signature" if signature else "malformed")
                found = (reply.status, reply.detail.get("reason"))
                problem = None if found == expected else f"expected {expected}, found {found}, raised {reply.raised}"
                tally.count(f"{name} {vector['tcId']}", problem)


def _publish(group: dict[str, Any], kty: _KeyType, *, kid: str, alg: str) -> dict[str, Any]:
    return import_key(group["publicKeyPem"], kty).as_dict(private=False) | {"kid": kid, "alg": alg}


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
