"""Every token of the attack tables, verified twice: each has the expected outcome, and no output repeats it."""

import asyncio
import logging
import re
import ssl
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Final

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fastapi_logto import LogtoSettings, TokenClaims
from fastapi_logto.errors import MalformedTokenError, RefusalError, SignatureError
from fastapi_logto.provider.discovery import build_metadata_source
from fastapi_logto.provider.key_source import build_key_source
from fastapi_logto.provider.transport import Transport
from fastapi_logto.settings import SettingsArguments
from fastapi_logto.strict_json import JsonObject
from fastapi_logto.testing import ManualClock
from fastapi_logto.verification.tenants import Tenant
from fastapi_logto.verification.turns import Turns
from fastapi_logto.verification.verifier import TokenVerifier
from tests.captured import JWKS, TOKENS
from tests.captured import NOW as CAPTURED_NOW
from tests.vectors.forge import API, ISSUER_URL, NOW, Forge
from tests.vectors.headers import HEADER_ROWS, SEEN_LATE
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.rows import PayloadRow, Row, TokenRow
from tests.vectors.tokens import P384_ORDER, TOKEN_ROWS

FORGE: Final = Forge.create()
# One context for all, because creating one reads the certificate authorities of the machine.
TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
DISCOVERY_URL: Final = f"{ISSUER_URL}/.well-known/openid-configuration"
JWKS_URL: Final = f"{ISSUER_URL}/jwks"
ROWS: Final[Sequence[TokenRow | PayloadRow]] = (*HEADER_ROWS, *TOKEN_ROWS, *PAYLOAD_ROWS)


class Provider:
    """A provider in memory with discovery document and key set, which counts requests."""

    def __init__(self, *, issuer: str, jwks: JsonObject) -> None:
        self.issuer = issuer
        self.jwks = jwks
        self.asked: Counter[str] = Counter()

    def answer(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.asked[url] += 1
        documents = {
            f"{self.issuer}/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/jwks",
            },
            f"{self.issuer}/jwks": self.jwks,
        }
        return httpx.Response(200, json=documents[url]) if url in documents else httpx.Response(404)


def build_verifier(
    provider: Provider, *, now: float = NOW, changes: SettingsArguments | None = None
) -> TokenVerifier[TokenClaims]:
    arguments = SettingsArguments(endpoint=provider.issuer.removesuffix("/oidc"), audience=API)
    arguments.update(changes or {})
    policy = LogtoSettings(**arguments)
    clock = ManualClock(now=now)
    transport = Transport(timeout_seconds=5, http_transport=httpx.MockTransport(provider.answer), ssl_context=TLS)
    metadata = build_metadata_source(policy, transport=transport, clock=clock)
    keys = build_key_source(policy, metadata=metadata, transport=transport, clock=clock)
    return TokenVerifier(
        [Tenant(policy, key_source=keys)], clock=clock, claims_model=TokenClaims, turns=Turns(max_waiting=400)
    )


def build_token(row: TokenRow | PayloadRow) -> str:
    return FORGE.with_payload(row.payload) if isinstance(row, PayloadRow) else row.change(FORGE)


def shown(error: RefusalError) -> str:
    """Return all texts of an error that a response, a log or a traceback may show."""
    return "\n".join((error.message, str(error), repr(error), repr(error.args), *traceback.format_exception(error)))


def secrets_of(token: str) -> list[str]:
    """Return the token, its payload and its signature, unless they are so short that they occur in other text."""
    _, _, rest = token.partition(".")
    payload, _, signature = rest.partition(".")
    return [secret for secret in (token, payload, signature) if len(secret) >= 16]


async def outcome(verifier: TokenVerifier[TokenClaims], token: str) -> TokenClaims | RefusalError:
    """Return the claims or the refusal. Any other exception fails the test."""
    try:
        return await verifier.verify(SecretStr(token))
    except RefusalError as error:
        return error


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
async def test_each_row_has_its_outcome_twice_and_no_output_repeats_the_token(
    row: TokenRow | PayloadRow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = Provider(issuer=ISSUER_URL, jwks=FORGE.jwks())
    verifier = build_verifier(provider, changes=row.settings)
    token = build_token(row)

    first, second = await outcome(verifier, token), await outcome(verifier, token)

    for result in (first, second):
        if row.refused is None:
            assert not isinstance(result, RefusalError), f"refused: {result}"
            assert result.aud == API or API in result.aud
        else:
            assert isinstance(result, RefusalError), "admitted"
            assert row.refused.fits(result), repr(result)
            assert result.claim == row.claim
            said = shown(result)
            assert not [secret for secret in secrets_of(token) if secret in said]
            # Values from the token are only in the log, quoted. The message for the client only names settings.
            assert result.found is None or result.found not in result.message
    logged = "\n".join(f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records)
    assert not [secret for secret in secrets_of(token) if secret in logged]
    assert set(provider.asked) <= {DISCOVERY_URL, JWKS_URL}
    assert provider.asked[JWKS_URL] <= 2


@pytest.mark.parametrize("rows", [HEADER_ROWS, TOKEN_ROWS, PAYLOAD_ROWS], ids=["headers", "tokens", "payloads"])
def test_each_table_begins_with_the_valid_token_and_names_every_row_once(rows: Sequence[Row]) -> None:
    assert (rows[0].id, rows[0].refused) == ("good", None)
    assert [name for name, count in Counter(row.id for row in rows).items() if count > 1] == []
    assert [row.id for row in rows if not row.reference] == []


async def test_a_token_refused_before_the_key_lookup_causes_no_fetch() -> None:
    provider = Provider(issuer=ISSUER_URL, jwks=FORGE.jwks())
    verifier = build_verifier(provider)
    early = {"malformed", "too_large", "algorithm", "type", "id_token", "opaque_token"}

    for row in (*HEADER_ROWS, *TOKEN_ROWS):
        if row.refused is not None and row.refused.reason in early and not row.settings:
            if row.id in SEEN_LATE:
                continue
            with pytest.raises(row.refused.error):
                await verifier.verify(SecretStr(row.change(FORGE)))

    assert provider.asked == Counter()


async def test_a_refused_token_has_no_effect_on_the_next_token() -> None:
    provider = Provider(issuer=ISSUER_URL, jwks=FORGE.jwks())
    verifier = build_verifier(provider)
    good = FORGE.good()
    head = good.rpartition(".")[0]

    await verifier.verify(SecretStr(good))

    with pytest.raises(MalformedTokenError):
        await verifier.verify(SecretStr(f"{head}."))
    with pytest.raises(SignatureError):
        await verifier.verify(SecretStr(FORGE.with_signature(bytes(96))))
    with pytest.raises(MalformedTokenError):
        await verifier.verify(SecretStr(f"{good}="))
    assert (await verifier.verify(SecretStr(good))).sub == "iuvey8ee7hls"


async def test_the_second_form_of_an_ecdsa_signature_returns_the_same_claims_and_identity() -> None:
    verifier = build_verifier(Provider(issuer=ISSUER_URL, jwks=FORGE.jwks()))
    twin = FORGE.with_changed_signature(lambda r, s: r.to_bytes(48, "big") + (P384_ORDER - s).to_bytes(48, "big"))

    # Both are valid in ECDSA. So the token's text or its digest must not serve as its identity:
    # revocation and replay detection use `jti`, which is the same in both.
    original, other = await verifier.verify(SecretStr(FORGE.good())), await verifier.verify(SecretStr(twin))

    assert other == original
    assert other.jti == "jKWg6xwbZsJT7THAf"


async def test_the_refusal_of_an_opaque_token_says_which_resource_to_request() -> None:
    verifier = build_verifier(Provider(issuer=ISSUER_URL, jwks=FORGE.jwks()))

    result = await outcome(verifier, TOKENS["opaque"].token)

    assert isinstance(result, RefusalError)
    assert result.message == (
        "This is an opaque token, which Logto issues without a resource; "
        "request the token with resource=https://api.example.test"
    )


CAPTURED_OUTCOMES: Final[dict[str, str | None]] = {
    "m2m_api": None,
    "m2m_api_noscope": None,
    "m2m_norole": None,
    "m2m_org": "audience",
    "m2m_org_api": None,
    "management_api": "audience",
    "user_api_spa": None,
    "user_id_token": "id_token",
    "user_reader_api": None,
    "user_norole_api": None,
    "opaque": "opaque_token",
    "org_token_scoped": "audience",
    "org_api_token": None,
    "exchange_impersonation_act": None,
    "exchange_impersonation_no_actor": None,
    "pat_exchange": None,
    "user_api_custom_claims": None,
    "user_api_expired": "expired",
}


def test_every_captured_token_has_an_expected_outcome() -> None:
    assert set(CAPTURED_OUTCOMES) == set(TOKENS)


@pytest.mark.parametrize("name", sorted(TOKENS))
async def test_a_token_of_a_real_logto_has_the_outcome_of_its_kind(name: str) -> None:
    keys: JsonObject = {"keys": [dict(key) for key in JWKS["keys"]]}
    verifier = build_verifier(Provider(issuer="http://127.0.0.1:3001/oidc", jwks=keys), now=CAPTURED_NOW)

    result = await outcome(verifier, TOKENS[name].token)

    assert (result.reason if isinstance(result, RefusalError) else None) == CAPTURED_OUTCOMES[name]
    if isinstance(result, TokenClaims):
        assert result.model_dump(mode="json", exclude_unset=True) == TOKENS[name].claims


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(alphabet="AZaz09-_.=+/ {}\n", max_size=200)))
def test_any_text_as_a_token_ends_in_a_refusal_that_is_one_line_of_ascii(text: str) -> None:
    verifier = build_verifier(Provider(issuer=ISSUER_URL, jwks=FORGE.jwks()))

    result = asyncio.run(outcome(verifier, text))

    assert isinstance(result, RefusalError)
    assert re.fullmatch(r"[\x20-\x7e]+", str(result))
    assert re.fullmatch(r"[\x20-\x7e]+", result.message)
