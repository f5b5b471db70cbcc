"""Tokens of the real server that Logto is built on, verified over real sockets."""

import asyncio

import pytest

from fastapi_logto import LogtoAuth, LogtoSettings
from fastapi_logto.client import GrantRefusedError, LogtoClient
from fastapi_logto.errors import (
    AudienceError,
    ExpiredTokenError,
    IdTokenError,
    InactiveTokenError,
    InvalidTokenError,
    OpaqueTokenError,
    ProviderUnavailableError,
)
from fastapi_logto.introspection import Introspection
from tests.integration.processes import find_free_port
from tests.integration.provider import (
    API,
    MACHINE_ID,
    MACHINE_SECRET,
    RSA_API,
    SHORTLIVED_API,
    SPA_ID,
    Provider,
    run_provider,
)


def build_auth(provider: Provider, *audience: str) -> LogtoAuth:
    return LogtoAuth(endpoint=provider.endpoint, audience=audience or (API,), leeway_seconds=0)


async def test_a_machine_token_signed_with_es384_is_accepted(provider: Provider) -> None:
    token = await asyncio.to_thread(provider.machine_token, scope="read:user")

    claims = await build_auth(provider).verify(token)

    assert (claims.sub, claims.client_id, claims.is_machine) == (MACHINE_ID, MACHINE_ID, True)
    assert claims.scopes == {"read:user"}
    assert claims.audiences == {API}
    assert claims.iss == provider.issuer


async def test_a_machine_token_signed_with_rs256_is_accepted_though_its_key_names_no_algorithm(
    provider: Provider,
) -> None:
    token = await asyncio.to_thread(provider.machine_token, resource=RSA_API, scope="write:user")

    claims = await build_auth(provider, RSA_API).verify(token)

    assert claims.scopes == {"write:user"}


@pytest.mark.parametrize(
    ("login", "scopes"),
    [("alice", {"read:user", "write:user"}), ("bob", {"read:user"}), ("carol", set[str]())],
)
async def test_a_user_gets_the_scopes_that_they_hold(provider: Provider, login: str, scopes: set[str]) -> None:
    token = await asyncio.to_thread(provider.user_token, login=login)

    claims = await build_auth(provider).verify(token)

    assert (claims.user_id, claims.is_machine) == (login, False)
    assert claims.scopes == scopes


async def test_the_tokens_that_are_no_access_tokens_of_this_api_are_refused(provider: Provider) -> None:
    auth = build_auth(provider)
    answer = await asyncio.to_thread(provider.user_answer, login="alice", scope="openid")
    other = await asyncio.to_thread(provider.machine_token, resource=RSA_API)

    with pytest.raises(OpaqueTokenError, match="opaque_token"):
        await auth.verify(answer["access_token"])
    with pytest.raises(IdTokenError, match="id_token"):
        await auth.verify(answer["id_token"])
    with pytest.raises(AudienceError, match=f"expected '{API}', found '{RSA_API}'"):
        await auth.verify(other)


async def test_an_opaque_token_is_accepted_by_introspection_and_a_refresh_token_is_not(provider: Provider) -> None:
    def build(client: str) -> LogtoAuth:
        opaque = Introspection(client_id=MACHINE_ID, client_secret=MACHINE_SECRET, allowed_clients=[client])
        return LogtoAuth(endpoint=provider.endpoint, audience=API, introspection=opaque)

    answer = await asyncio.to_thread(provider.user_answer, login="alice", scope="openid offline_access")

    claims = await build(SPA_ID).verify(answer["access_token"])

    assert (claims.user_id, claims.client_id, claims.iss) == ("alice", SPA_ID, provider.issuer)
    assert "openid" in claims.scopes
    with pytest.raises(AudienceError):
        await build("another").verify(answer["access_token"])
    # For the server it is active too, but it has no type.
    with pytest.raises(InactiveTokenError):
        await build(SPA_ID).verify(answer["refresh_token"])


async def test_the_client_gets_machine_tokens_that_the_api_admits(provider: Provider) -> None:
    client = LogtoClient(endpoint=provider.endpoint, client_id=MACHINE_ID, client_secret=MACHINE_SECRET)

    issued = await client.get_token(API, scopes=["read:user", "delete:all"])

    # Logto omits a scope that it does not grant; so does the server that it is built on.
    assert issued.scopes == {"read:user"}
    assert (await build_auth(provider).verify(issued.token)).client_id == MACHINE_ID
    assert await client.get_token(API, scopes=["read:user", "delete:all"]) is issued
    with pytest.raises(GrantRefusedError) as refused:
        await client.get_token(f"{API}/")
    assert refused.value.error == "invalid_target"
    wrong = LogtoClient(endpoint=provider.endpoint, client_id=MACHINE_ID, client_secret="wrong")
    with pytest.raises(GrantRefusedError) as refused:
        await wrong.get_token(API)
    assert (refused.value.status, refused.value.error) == (401, "invalid_client")


async def test_the_client_gets_the_profile_of_a_user(provider: Provider) -> None:
    answer = await asyncio.to_thread(provider.user_answer, login="alice", scope="openid profile")
    client = LogtoClient(endpoint=provider.endpoint, client_id=MACHINE_ID, client_secret=MACHINE_SECRET)

    assert (await client.get_userinfo(answer["access_token"]))["sub"] == "alice"


async def test_the_client_exchanges_a_users_token_and_no_other_one(provider: Provider) -> None:
    client = LogtoClient(endpoint=provider.endpoint, client_id=MACHINE_ID, client_secret=MACHINE_SECRET)
    subject = await asyncio.to_thread(provider.user_token, login="bob")

    issued = await client.exchange_token(subject, RSA_API, scopes=["read:user", "write:user"])

    claims = await build_auth(provider, RSA_API).verify(issued.token)
    assert (claims.user_id, claims.client_id, claims.is_machine) == ("bob", MACHINE_ID, False)
    assert claims.scopes == issued.scopes == {"read:user"}
    machine = await client.get_token(API)
    for bad in (machine.token, f"{subject[:-8]}AAAAAAAA", "garbage"):
        with pytest.raises(GrantRefusedError) as refused:
            await client.exchange_token(bad, RSA_API)
        assert refused.value.error == "invalid_grant"


async def test_a_token_that_lives_a_second_is_refused_afterwards(provider: Provider) -> None:
    auth = build_auth(provider, SHORTLIVED_API)
    token = await asyncio.to_thread(provider.machine_token, resource=SHORTLIVED_API)

    async def wait_until_refused() -> InvalidTokenError:
        while True:
            try:
                await auth.verify(token)
            except InvalidTokenError as error:
                return error
            await asyncio.sleep(0)

    error = await asyncio.wait_for(wait_until_refused(), timeout=20)
    assert type(error) is ExpiredTokenError


def test_a_rotation_without_grace_is_followed_and_an_outage_differs_from_an_invalid_token(
    provider: Provider,
) -> None:
    port = find_free_port()
    settings = LogtoSettings(endpoint=f"http://127.0.0.1:{port}", audience=API, fetch_timeout_seconds=2)
    auth, late = LogtoAuth(settings=settings), LogtoAuth(settings=settings)

    # Each call runs on its own event loop, and the keys stay cached between calls.
    with run_provider(port=port, keys="first") as first:
        old = first.machine_token(scope="read:user")
        assert asyncio.run(auth.verify(old)).scopes == {"read:user"}

    # Unreachable, but its keys are cached and still used. Without cached keys, the token can't be verified.
    assert asyncio.run(auth.verify(old)).scopes == {"read:user"}
    with pytest.raises(ProviderUnavailableError):
        asyncio.run(late.verify(old))

    with run_provider(port=port, keys="second") as second:
        assert second.port != provider.port
        new = second.machine_token(scope="write:user")
        assert asyncio.run(auth.verify(new)).scopes == {"write:user"}
        # Within the cooldown, and issued at about the time of the last fetch: its key might be new.
        with pytest.raises(ProviderUnavailableError):
            asyncio.run(auth.verify(old))
