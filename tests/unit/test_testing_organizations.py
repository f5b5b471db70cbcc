"""Organizations and token exchange of the local issuer, requested by the package's own client."""

from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth
from fastapi_logto.client import GrantRefusedError, LogtoClient
from fastapi_logto.testing import Directory, LocalIssuer, Organization, User, bearer
from fastapi_logto.testing.issuer.lookup import list_held
from tests.unit.apps import API, sign_in

ORGANIZATIONS = "urn:logto:resource:organizations"


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture
def client(issuer: LocalIssuer) -> LogtoClient:
    return build_client(issuer)


def build_client(issuer: LocalIssuer, client_id: str = "local-machine") -> LogtoClient:
    return LogtoClient(
        endpoint=issuer.endpoint,
        client_id=client_id,
        client_secret=f"{client_id}-secret",
        http_transport=httpx.ASGITransport(app=issuer.app),
    )


async def read(issuer: LocalIssuer, token: str) -> dict[str, Any]:
    """Verify the signature and the type of a token and return its claims, also for organization tokens."""
    auth: LogtoAuth = issuer.auth()
    node: Any = auth.schemes[2]
    verifier = await node._state.load_in_thread()
    claims = await verifier.verify(SecretStr(token), node._policy)
    return dict(claims.model_dump(exclude_none=True))


async def refused(call: Any) -> tuple[int, str, str]:
    with pytest.raises(GrantRefusedError) as caught:
        await call
    return caught.value.status, caught.value.error, caught.value.description.strip("'")


async def test_a_machine_gets_organization_tokens_of_each_shape(issuer: LocalIssuer, client: LogtoClient) -> None:
    plain = await client.get_organization_token("acme", scopes=["read:member", "invite:member"])
    claimed = await client.get_token(ORGANIZATIONS, scopes=["read:member"], organization_id="acme")
    of_api = await client.get_token(API, scopes=["read:user", "write:user"], organization_id="acme")

    assert plain.scopes == claimed.scopes == {"read:member"}
    assert of_api.scopes == {"read:user"}
    assert (await read(issuer, plain.token))["aud"] == "urn:logto:organization:acme"
    shapes = [await read(issuer, issued.token) for issued in (claimed, of_api)]
    assert [(shape["aud"], shape["organization_id"]) for shape in shapes] == [(ORGANIZATIONS, "acme"), (API, "acme")]
    # Without requested and granted scopes, there is no claim.
    assert "scope" not in await read(issuer, (await client.get_organization_token("acme")).token)


@pytest.mark.parametrize("organization", ["globex", "nowhere"])
async def test_an_organization_that_the_machine_is_not_in_is_refused_like_one_that_is_not(
    client: LogtoClient, organization: str
) -> None:
    expected = (403, "access_denied", "app has not associated with the organization")

    assert await refused(client.get_organization_token(organization)) == expected
    assert await refused(client.get_token(API, organization_id=organization)) == expected


async def test_an_unknown_resource_is_refused_in_an_organization_too(client: LogtoClient) -> None:
    assert (await refused(client.get_token("https://nope.example.test", organization_id="acme")))[1] == "invalid_target"
    assert (await refused(client.get_token(ORGANIZATIONS)))[1] == "invalid_target"


def refresh(issuer: LocalIssuer, refresh_token: str, **form: str) -> tuple[int, dict[str, Any]]:
    answer = TestClient(issuer.app, base_url=issuer.endpoint).post(
        "/oidc/token",
        data={"grant_type": "refresh_token", "client_id": "local-spa", "refresh_token": refresh_token, **form},
    )
    return answer.status_code, answer.json()


SCOPE: Final = "openid offline_access urn:logto:scope:organizations read:user read:member"


def sign_in_to_refresh(issuer: LocalIssuer, user: str, *, scope: str = SCOPE) -> str:
    """Sign in like Logto's SDKs whose scopes include that for organizations."""
    token: str = sign_in(issuer, user=user, scope=scope, resources=[API, ORGANIZATIONS])["refresh_token"]
    return token


def read_token(issuer: LocalIssuer, answer: dict[str, Any]) -> dict[str, Any]:
    claims = issuer.read_access_token(answer["access_token"])
    assert claims is not None
    return claims


def test_a_user_gets_organization_tokens_by_a_refresh_token(issuer: LocalIssuer) -> None:
    token = sign_in_to_refresh(issuer, "alice")

    status, answer = refresh(issuer, token, organization_id="acme")
    assert (status, answer["scope"]) == (200, "read:member")
    assert read_token(issuer, answer)["aud"] == "urn:logto:organization:acme"
    _, answer = refresh(issuer, answer["refresh_token"], organization_id="acme", resource=ORGANIZATIONS)
    claims = read_token(issuer, answer)
    assert (claims["aud"], claims["organization_id"], claims["scope"]) == (ORGANIZATIONS, "acme", "read:member")
    # `write:user` is held and was not requested at the sign-in.
    _, answer = refresh(issuer, answer["refresh_token"], organization_id="acme", resource=API)
    claims = read_token(issuer, answer)
    assert (claims["aud"], claims["organization_id"], claims["scope"]) == (API, "acme", "read:user")
    _, answer = refresh(issuer, answer["refresh_token"], organization_id="acme", scope="openid")
    assert answer["scope"] == ""


def test_a_member_without_a_role_gets_a_token_with_an_empty_scope(issuer: LocalIssuer) -> None:
    status, answer = refresh(issuer, sign_in_to_refresh(issuer, "bob"), organization_id="globex")
    assert (status, answer["scope"]) == (200, "")
    assert read_token(issuer, answer)["scope"] == ""


@pytest.mark.parametrize(
    ("user", "scope", "form", "refusal"),
    [
        ("carol", SCOPE, {}, (403, "access_denied", "user is not a member of the organization")),
        (
            "alice",
            "openid offline_access read:member",
            {},
            (403, "insufficient_scope", "refresh token missing required scope"),
        ),
        (
            "alice",
            SCOPE,
            {"scope": "write:user"},
            (400, "invalid_scope", "refresh token missing requested scope"),
        ),
        ("alice", SCOPE, {"resource": "nope"}, (400, "invalid_target", "resource indicator is missing, or unknown")),
    ],
)
def test_an_organization_token_that_the_sign_in_does_not_allow_is_refused(
    issuer: LocalIssuer, user: str, scope: str, form: dict[str, str], refusal: tuple[int, str, str]
) -> None:
    token = sign_in_to_refresh(issuer, user, scope=scope)

    status, answer = refresh(issuer, token, organization_id="acme" if user == "alice" else "globex", **form)

    assert (status, answer["error"], answer["error_description"]) == refusal


def test_the_permissions_of_organizations_are_requested_like_those_of_an_api(issuer: LocalIssuer) -> None:
    answer = sign_in(issuer, user="alice", scope="read:member", resources=[ORGANIZATIONS])

    assert answer["scope"] == "read:member"
    assert read_token(issuer, answer)["aud"] == ORGANIZATIONS


def test_a_plain_token_carries_the_scopes_of_all_organization_roles() -> None:
    example = Directory.example()
    carol = next(user for user in example.users if user.username == "carol")
    directory = Directory(
        resources=example.resources,
        users=[carol],
        organizations=[Organization(id="A", members={carol.id: {API: ["read:user"]}})],
    )

    assert list_held(directory, carol, API) == ("read:user",)
    assert carol.scopes == {}


@pytest.mark.parametrize(
    "organizations",
    [
        [Organization(id="A"), Organization(id="A")],
        [Organization(id="A", members={"nobody": {}})],
        [Organization(id="A", members={"u": {"https://nope.example.test": ["read:user"]}})],
        [Organization(id="A", members={"u": {API: ["nope"]}})],
    ],
    ids=["twice", "a stranger", "no such resource", "no such scope"],
)
def test_an_organization_that_contradicts_the_directory_is_refused(organizations: list[Organization]) -> None:
    user = User(id="u", username="u", name="U")

    with pytest.raises(ValueError, match="expected"):
        Directory(resources=Directory.example().resources, users=[user], organizations=organizations)


async def test_a_users_token_is_exchanged_for_one_of_another_api(issuer: LocalIssuer, client: LogtoClient) -> None:
    alice, bob = issuer.directory.users[:2]

    issued = await client.exchange_token(issuer.access_token(subject=alice.id), API, scopes=["read:user", "delete:all"])
    claims = await read(issuer, issued.token)
    assert (claims["sub"], claims["client_id"], claims["scope"]) == (alice.id, "local-machine", "read:user")
    assert "act" not in claims
    # Never more than the scopes of the user, whatever the scopes of the subject token are.
    poor = await client.exchange_token(
        issuer.access_token(subject=bob.id, scopes=["write:user"]), API, scopes=["write:user"]
    )
    assert poor.scopes == frozenset()
    opaque = await client.exchange_token(issuer.opaque_token(subject=bob.id), API, scopes=["read:user"])
    assert (await read(issuer, opaque.token))["sub"] == bob.id
    actor = issuer.opaque_token(subject=bob.id)
    acting = await client.exchange_token(issuer.access_token(subject=alice.id), API, actor_token=actor)
    assert (await read(issuer, acting.token))["act"] == {"sub": bob.id}
    inside = await client.exchange_token(
        issuer.access_token(subject=alice.id), API, scopes=["write:user"], organization_id="acme"
    )
    assert (await read(issuer, inside.token))["organization_id"] == "acme"


async def test_a_token_that_is_not_a_users_is_not_exchanged(issuer: LocalIssuer, client: LogtoClient) -> None:
    user = issuer.directory.users[0].id
    good = issuer.access_token(subject=user)
    expected = (400, "invalid_grant", "grant request is invalid")

    for subject in (
        "garbage",
        "a.b.c",
        issuer.bad_token("forged"),
        issuer.id_token(subject=user),
        issuer.machine_token(),
        issuer.access_token(subject="nobody"),
        issuer.access_token(subject=user, lifetime_seconds=-1),
        LocalIssuer().access_token(subject=user),
        issuer.access_token(subject=user, claims={"iss": "https://other.example.com/oidc"}),
    ):
        assert await refused(client.exchange_token(subject, API)) == expected
    assert await refused(client.exchange_token(good, API, actor_token="garbage")) == expected
    assert await refused(client.exchange_token(good, API, subject_token_type="personal_access_token")) == expected
    assert (await refused(client.exchange_token(good, "https://nope.example.test")))[1] == "invalid_target"
    assert (await refused(client.exchange_token(good, API, organization_id="globex")))[1] == "access_denied"


def test_an_exchange_without_a_resource_returns_an_opaque_token(issuer: LocalIssuer) -> None:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": issuer.access_token(),
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "openid read:user",
    }
    client = TestClient(issuer.app, base_url=issuer.endpoint)
    answer = client.post("/oidc/token", data=form, auth=("local-machine", "local-machine-secret"))

    assert (answer.status_code, answer.json()["scope"]) == (200, "openid")
    profile = client.get("/oidc/me", headers=bearer(answer.json()["access_token"]))
    assert profile.json() == {"sub": "alice0000001"}
