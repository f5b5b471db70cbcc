"""What the schemes of one `LogtoAuth` share: settings, verifier, metadata pages, and whose organizations are meant."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fastapi_logto import LogtoAuth, LogtoSettings, SettingsError, TokenClaims
from fastapi_logto.protected_resource import WELL_KNOWN
from fastapi_logto.revocation import Revocations
from fastapi_logto.schemes import find_state
from fastapi_logto.state import NOT_GIVEN, SERVED_PAGES, AuthState, ServedPages, collect_tenants
from fastapi_logto.testing import LocalIssuer, ManualClock
from fastapi_logto.testing import claims as make_claims
from tests.captured import NOW
from tests.unit.apps import API
from tests.unit.fakes import wait_until

NOBODY: Final[frozenset[str]] = frozenset()
A: Final = LogtoSettings(endpoint="https://a.logto.app", audience=API, issuers=["https://auth.example.com/oidc"])
B: Final = LogtoSettings(endpoint="https://b.logto.app", audience=API)
PUBLIC: Final = LogtoSettings(endpoint="https://a.logto.app", audience=API, public_url="https://api.example.com")
PAGE: Final = f"https://api.example.com{WELL_KNOWN}"


def build(*settings: LogtoSettings) -> AuthState[TokenClaims]:
    return find_state(LogtoAuth(settings=list(settings)))


class TestPages:
    def test_their_url_is_built_from_the_settings_of_the_first_tenant(self) -> None:
        state, several, other = build(PUBLIC), build(PUBLIC, B), build(B, PUBLIC.model_copy(update={"issuers": ()}))

        for one, url in ((state, PAGE), (several, PAGE), (other, None)):
            assert one.find_metadata_url(None, scope={SERVED_PAGES: (ServedPages([one], ""),)}) == url

    @pytest.mark.parametrize("state", [build(B), find_state(LogtoAuth())], ids=["no public_url", "no settings"])
    def test_there_is_no_url_without_the_setting(self, state: AuthState[TokenClaims]) -> None:
        assert state.find_metadata_url(None, scope={SERVED_PAGES: (ServedPages([state], ""),)}) is None

    def test_there_is_no_url_if_no_application_serves_them(self) -> None:
        state, other = build(PUBLIC), build(B)

        assert state.find_metadata_url(None, scope={}) is None
        assert state.find_metadata_url(None, scope={SERVED_PAGES: (ServedPages([other], ""),)}) is None

    def test_there_is_no_url_before_the_settings_of_every_state_are_known(self) -> None:
        state = build(PUBLIC)

        pages = ServedPages([state, find_state(LogtoAuth(scheme_name="Other"))], "")
        assert state.find_metadata_url(None, scope={SERVED_PAGES: (pages,)}) is None

    def test_the_outermost_application_with_them_counts(self) -> None:
        state, other = build(PUBLIC), build(B)
        pages = [ServedPages([other], "/other"), ServedPages([other, state], "/outer"), ServedPages([state], "/inner")]

        assert state.find_pages({SERVED_PAGES: pages}) is pages[1]
        assert state.find_metadata_url(None, scope={SERVED_PAGES: pages}) == (
            f"https://api.example.com/outer{WELL_KNOWN}"
        )


class TestOrganizations:
    @pytest.mark.parametrize(
        ("state", "issuer", "issuers"),
        [
            (build(A), None, None),
            (build(A), "any", None),
            (build(A), A.issuer, A.accepted_issuers),
            (build(A), "https://auth.example.com/oidc", A.accepted_issuers),
            (build(A), B.issuer, NOBODY),
            (build(A, B), None, NOBODY),
            (build(A, B), "any", None),
            (build(A, B), B.issuer, B.accepted_issuers),
            (find_state(LogtoAuth()), None, None),
            (find_state(LogtoAuth()), B.issuer, None),
        ],
    )
    def test_the_issuer_selects_the_tenant(
        self, state: AuthState[TokenClaims], issuer: str | None, issuers: frozenset[str] | None
    ) -> None:
        assert state.find_organization_issuers(issuer) == issuers

    @pytest.mark.parametrize(
        ("state", "issuers"),
        [
            (build(A), [None, "any", A.issuer, "https://auth.example.com/oidc"]),
            (build(A, B), ["any", A.issuer, B.issuer]),
            (find_state(LogtoAuth()), [None, "any", A.issuer, "https://unknown.example/oidc"]),
        ],
        ids=["one", "several", "unknown"],
    )
    def test_a_requirement_may_name_an_issuer_of_the_settings(
        self, state: AuthState[TokenClaims], issuers: list[str | None]
    ) -> None:
        for issuer in issuers:
            state.check_organization_issuer(issuer)

    @pytest.mark.parametrize("state", [build(A), build(A, B)], ids=["one", "several"])
    def test_a_requirement_with_another_issuer_is_an_error(self, state: AuthState[TokenClaims]) -> None:
        with pytest.raises(SettingsError, match=r"or 'any', found issuer='https://unknown\.example/oidc'$"):
            state.check_organization_issuer("https://unknown.example/oidc")

    def test_with_several_tenants_a_requirement_must_name_one(self) -> None:
        with pytest.raises(SettingsError, match=f'found none; pass OrganizationSource.from_path\\(issuer="{A.issuer}"'):
            build(A, B).check_organization_issuer(None)

    def test_a_requirement_is_checked_by_the_settings_of_the_application_and_not_by_those_of_a_test(self) -> None:
        issuer = LocalIssuer()
        transport = httpx.ASGITransport(app=issuer.app)

        for state in (build(A, B), find_state(LogtoAuth())):
            with state.replaced(B, clock=issuer.clock, http_transport=transport):
                state.check_organization_issuer(A.issuer)
        state = build(A, B)
        with (
            state.replaced(B, clock=issuer.clock, http_transport=transport),
            pytest.raises(SettingsError, match="organization: expected issuer="),
        ):
            state.check_organization_issuer(None)

    def test_one_connected_issuer_represents_every_tenant(self) -> None:
        state, issuer = build(A, B), LocalIssuer()

        with state.replaced(B, clock=issuer.clock, http_transport=httpx.ASGITransport(app=issuer.app)):
            assert [state.find_organization_issuers(one) for one in (None, A.issuer, B.issuer)] == [None] * 3
        assert state.find_organization_issuers(B.issuer) == B.accepted_issuers


async def test_a_connection_of_another_domain_of_the_tenant_ends_with_a_revocation_of_the_tenant() -> None:
    revocations, ended = Revocations(), list[str]()
    auth = LogtoAuth(settings=[A, B], revocations=revocations, clock=ManualClock(now=NOW))
    claims = make_claims(subject="alice", issuer="https://auth.example.com/oidc", issued_at=NOW - 10)

    stop = find_state(auth).watch(claims, lambda: ended.append("ended"))
    await revocations.revoke(user_id="alice", issuer=B.issuer)
    await asyncio.sleep(0)
    assert ended == []
    await revocations.revoke(user_id="alice", issuer=A.issuer)
    await wait_until(lambda: ended == ["ended"])
    stop()


class TestLoad:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path(".env").write_text(f"LOGTO_ENDPOINT={B.endpoint}\nLOGTO_AUDIENCE={API}\n", encoding="utf-8")

    async def test_known_settings_are_returned_without_a_thread(self) -> None:
        state = build(A)

        with pytest.raises(StopIteration) as ended:
            state.load_in_thread().send(None)

        assert ended.value.value is state.verifier
        assert state.verifier is not None

    @pytest.mark.usefixtures("folder")
    async def test_the_settings_of_the_current_folder_are_read_at_the_first_use(self) -> None:
        state = find_state(LogtoAuth())
        assert (state.known_tenants, state.verifier) == ((), None)

        verifier = await state.load_in_thread()

        assert verifier is state.verifier
        assert state.known_tenants == state.tenants == (B,)


class TestCollect:
    @pytest.mark.parametrize(
        ("settings", "tenants"),
        [(A, (A,)), ([A], (A,)), ((A, B), (A, B)), ([A, B], (A, B))],
        ids=["one", "a list of one", "a tuple", "a list"],
    )
    def test_settings_may_be_one_or_several(self, settings: Any, tenants: tuple[LogtoSettings, ...]) -> None:
        assert collect_tenants(settings, {"endpoint": NOT_GIVEN}) == tenants

    def test_arguments_are_the_settings_of_one_tenant(self) -> None:
        given = {"endpoint": B.endpoint, "audience": API, "issuers": NOT_GIVEN}

        assert collect_tenants(None, given) == (B,)
        assert collect_tenants(None, dict.fromkeys(given, NOT_GIVEN)) == ()

    @pytest.mark.parametrize(
        ("build_settings", "found"),
        [
            (list, "none"),
            (tuple, "none"),
            (lambda: "https://a.logto.app", "str"),
            (lambda: {"a": A}, "dict"),
            (lambda: [A, "https://a.logto.app"], "LogtoSettings, str"),
            (lambda: [None], "NoneType"),
        ],
    )
    def test_anything_else_is_an_error(self, build_settings: Callable[[], Any], found: str) -> None:
        with pytest.raises(
            SettingsError, match=rf"^settings: expected a LogtoSettings, or .* tenant, found {found}; to"
        ):
            collect_tenants(build_settings(), {})

    def test_settings_and_arguments_are_an_error(self) -> None:
        with pytest.raises(SettingsError, match="found both: settings and endpoint, audience; pass one of them"):
            collect_tenants(A, {"endpoint": B.endpoint, "audience": API, "issuers": NOT_GIVEN})
