"""Scopes in the code and permissions in Logto, compared and created with a server that responds like Logto."""

import json
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Security
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fastapi_logto import LogtoAuth, LogtoSettings
from fastapi_logto.cli.machines import Credentials
from fastapi_logto.cli.management import ManagementApi, sign_in
from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.scopes import compare, list_required, push
from fastapi_logto.provider.transport import Transport
from fastapi_logto.testing import LocalIssuer
from fastapi_logto.urls import find_management_resource
from tests.captured import Answer, Fault, serve_captured
from tests.conftest import Ended, RunCli
from tests.management import EXCHANGES, MANAGEMENT, FakeManagement, serve_management
from tests.tenants import API, serve

APP = """
from fastapi import Depends, FastAPI
from fastapi_logto import auth

app = FastAPI()

@app.get("/user", dependencies=[Depends(auth.require_scopes("read:user"))])
@app.get("/users", dependencies=[Depends(auth.require_scopes("read:user"))])
@app.patch("/user", dependencies=[Depends(auth.require_any_scope("write:user", "admin"))])
async def handler(): ...
"""


@pytest.fixture
def tenant() -> Iterator[tuple[LocalIssuer, FakeManagement]]:
    with serve_management() as served:
        yield served


@pytest.fixture
def deploy(cli: RunCli, tmp_path: Path, tenant: tuple[LocalIssuer, FakeManagement]) -> Generator[RunCli]:
    """The command line as `deployer`, in the directory of an application."""
    before = list(sys.path)
    sys.path[:] = [one for one in sys.path if one]
    (tmp_path / "deployed.py").write_text(APP.replace("from fastapi_logto import auth", f"""
from fastapi_logto import LogtoAuth
auth = LogtoAuth(endpoint="{tenant[0].endpoint}", audience="{API}")
"""))  # fmt: skip

    def run(*arguments: str, **more: Any) -> Ended:
        sys.modules.pop("deployed", None)
        environment = {"LOGTO_MANAGEMENT_CLIENT_ID": "deployer", "LOGTO_MANAGEMENT_CLIENT_SECRET": "deployer-secret"}
        return cli("scopes", arguments[0], "deployed:app", *arguments[1:], **{**environment, **more})

    yield run
    sys.path[:] = before
    sys.modules.pop("deployed", None)


@contextmanager
def open_api() -> Generator[tuple[ManagementApi, FakeManagement]]:
    with serve_management() as (issuer, management):
        settings = LogtoSettings(endpoint=issuer.endpoint, audience=API)
        credentials = Credentials(client_id="deployer", client_secret="deployer-secret")
        yield sign_in(settings, credentials, resource=MANAGEMENT, transport=Transport(timeout_seconds=5)), management


def test_the_server_responds_like_a_real_one(tenant: tuple[LocalIssuer, FakeManagement]) -> None:
    issuer, _ = tenant
    token = issuer.machine_token(client_id="deployer", audience=MANAGEMENT, scopes=["all"])
    known = {"qgshne0j8yhpqw6c0nwkd": ""}
    names = [
        "create resource", "create duplicate indicator", "create with empty name", "create with empty indicator",
        "scopes, empty", "create scope", "create scope duplicate name", "create scope, name with space",
        "create scope, no description", "create scope, description null", "create scope, empty description",
        "create scope, case differs", "create scope, 256 characters", "create scope, non-ASCII",
        "create scope on unknown resource", "list scopes", "list scopes page_size 1", "list scopes page_size 101",
        "list scopes of unknown resource",
    ]  # fmt: skip
    with httpx.Client(base_url=issuer.endpoint, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http:
        for name in names:
            exchange = EXCHANGES[name]
            path = exchange.path
            for old, new in known.items():
                path = path.replace(old, new)
            url = f"{path}?{exchange.query}".rstrip("?")
            answer = http.request(exchange.method, url, json=exchange.body)
            if name == "create resource":
                known = {exchange.answer["id"]: answer.json()["id"]}
            assert answer.status_code == exchange.status, name
            assert even_out(answer.json()) == even_out(exchange.answer), name
            for header in ("Total-Number", "Link"):
                expected = exchange.headers.get(header)
                found = answer.headers.get(header)
                assert count_links(found) == count_links(expected), (name, header)
        assert httpx.get(f"{issuer.endpoint}/api/resources", trust_env=False).json() == EXCHANGES["no token"].answer


def even_out(value: Any) -> str:
    """Return a response as JSON, without the values that differ between servers."""
    return re.sub(r'"(id|resourceId)": "[a-z0-9]+"|"createdAt": \d+', "*", json.dumps(value))


def count_links(header: str | None) -> list[str]:
    """Return the relations of a `Link` header; another header unchanged."""
    if header is None or "rel=" not in header:
        return [str(header)]
    return [part.rpartition("rel=")[2] for part in header.split(", ")]


def test_diff_says_what_logto_lacks_and_changes_nothing(
    deploy: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    management = tenant[1]
    before = deploy("diff", "--json")
    management.add_scopes(management.add_resource(API, "Mine"), "read:user", "other:thing")
    after = deploy("diff")

    report = json.loads(before.out)
    assert before.code == after.code == 1
    assert report["resources"] == [
        {
            "indicator": API,
            "exists": False,
            "missing": ["admin", "read:user", "write:user"],
            "present": [],
            "extra": [],
        }
    ]
    assert report["organization"] is None
    assert "✓  API resource  in both" in after.out
    assert "✓  read:user     in both" in after.out
    assert "✗  write:user    missing in Logto" in after.out
    assert "other:thing   only in Logto; left unchanged" in after.out
    assert "Scopes are missing in Logto. Create them with fastapi-logto scopes push." in after.out
    assert {method for method, _ in management.requests} == {"GET"}


def test_push_creates_what_is_missing_and_is_safe_to_run_twice(
    deploy: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    management = tenant[1]

    first = deploy("push", "--yes", "--name", "My API")
    writes = [request for request in management.requests if request[0] == "POST"]
    second = deploy("push", "--yes", "--json")

    assert (first.code, second.code) == (0, 0)
    assert "✗  API resource  missing in Logto" in first.err
    assert "✓  API resource  in both" in first.out
    assert "Created. Logto has every scope in the code." in first.out
    assert management.list_names(API) == ["admin", "read:user", "write:user"]
    (resource,) = (one for one in management.resources.values() if one["indicator"] == API)
    assert resource["name"] == "My API"
    assert [scope["description"] for scope in management.scopes[resource["id"]]] == [
        "For PATCH /user",
        "For GET /users, GET /user",
        "For PATCH /user",
    ]
    assert len(writes) == 4
    assert [request for request in management.requests if request[0] == "POST"] == writes
    assert json.loads(second.out)["resources"][0]["missing"] == []
    assert json.loads(second.out)["is_pushed"] is False
    assert deploy("diff").code == 0


def test_push_keeps_existing_permissions_and_never_deletes(
    deploy: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    management = tenant[1]
    resource = management.add_resource(API, "Mine")
    management.add_scopes(resource, "read:user", "held:by-a-role", description="kept")

    assert deploy("push", "--yes").code == 0

    assert management.list_names(API) == ["read:user", "held:by-a-role", "admin", "write:user"]
    assert management.scopes[resource["id"]][0]["description"] == "kept"
    assert resource["name"] == "Mine"
    assert {method for method, _ in management.requests} == {"GET", "POST"}
    fine, exact = deploy("diff"), deploy("diff", "--exact")
    assert (fine.code, exact.code) == (0, 1)
    assert "Logto has every scope in the code." in fine.out
    assert "Logto has permissions that no route requires." in exact.out
    assert "Logto has every scope in the code." not in exact.out


def test_push_asks_first_and_changes_nothing_without_a_terminal(
    deploy: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    ended = deploy("push")

    assert (ended.code, ended.out) == (2, "")
    assert "expected a terminal for the prompt, found none" in ended.err
    assert {method for method, _ in tenant[1].requests} == {"GET"}


@pytest.mark.parametrize(("answer", "code", "count"), [("y\n", 0, 3), ("n\n", 1, 0)])
def test_push_follows_the_answer_to_its_question(
    deploy: RunCli,
    tenant: tuple[LocalIssuer, FakeManagement],
    answer: str,
    code: int,
    count: int,
) -> None:
    tenant[1].add_resource(API, "Mine")

    ended = deploy("push", stdin=answer, is_terminal=True)

    assert ended.code == code
    assert "Create them in Logto?" in ended.err
    assert ("scopes push" in ended.err, "Scopes are missing in Logto." in ended.err) == (False, True)
    assert len(tenant[1].list_names(API)) == count


def test_scopes_are_read_from_every_page_and_no_link_is_followed() -> None:
    with open_api() as (api, management):
        resource = management.add_resource(API, "Mine")
        names = [f"bulk:{number}" for number in range(250)]
        management.add_scopes(resource, *names)

        assert api.list_scopes(resource["id"]) == names

    paths = [path for _, path in management.requests]
    assert paths == [f"/api/resources/{resource['id']}/scopes?page={page}&page_size=100" for page in (1, 2, 3)]


def test_a_resource_or_scope_that_is_created_concurrently_is_no_error() -> None:
    app, auth = FastAPI(), LogtoAuth(endpoint="https://x.example", audience=API)
    app.get("/", dependencies=[Depends(auth.require_scopes("read:user"))])(lambda: None)
    required = list_required(app)
    with open_api() as (api, management):
        report = compare(required, api, tenant="x")
        management.add_scopes(management.add_resource(API, "Theirs"), "read:user")

        assert api.create_resource(API, name="Ours") == api.find_resource_id(API)
        assert push(required, api, report, name="Ours").exit_code == 0
        assert management.list_names(API) == ["read:user"]


def test_a_server_that_forgets_what_was_created_fails() -> None:
    app, auth = FastAPI(), LogtoAuth(endpoint="https://x.example", audience=API)
    app.get("/", dependencies=[Depends(auth.require_scopes("read:user"))])(lambda: None)
    with open_api() as (api, management):
        report = compare(list_required(app), api, tenant="x")
        management.forgets = True

        after = push(list_required(app), api, report, name="Ours")

    assert after.exit_code == 1
    assert after.differs


def test_no_secret_no_token_and_no_claims_are_shown(deploy: RunCli) -> None:
    ended = deploy("diff", LOGTO_MANAGEMENT_CLIENT_SECRET="wrong-secret")

    assert ended.code == 2
    assert "expected a token for the Management API, found none" in ended.err
    assert "invalid_client" in ended.err
    assert "wrong-secret" not in ended.err
    assert "secret" not in repr(Credentials(client_id="x", client_secret="secret"))


def test_the_role_that_a_machine_lacks_is_named(deploy: RunCli) -> None:
    ended = deploy(
        "diff", LOGTO_MANAGEMENT_CLIENT_ID="stranger", LOGTO_MANAGEMENT_CLIENT_SECRET="stranger-secret"
    )  # fmt: skip

    assert ended.code == 2
    assert "give it a machine role with the permission `all` of the Logto Management API" in ended.err


def test_credentials_come_from_a_file_too_and_their_absence_is_reported(deploy: RunCli, tmp_path: Path) -> None:
    nobody = {"LOGTO_MANAGEMENT_CLIENT_ID": "", "LOGTO_MANAGEMENT_CLIENT_SECRET": ""}
    without_id = deploy("diff", **nobody)
    without_secret = deploy("diff", "--client-id", "deployer", **nobody)
    (tmp_path / "ci.env").write_text("LOGTO_MANAGEMENT_CLIENT_SECRET=deployer-secret\n")
    with_file = deploy("diff", "--client-id", "deployer", "--env-file", "ci.env", **nobody)

    assert (without_id.code, without_secret.code, with_file.code) == (2, 2, 1)
    assert "set LOGTO_MANAGEMENT_CLIENT_ID or pass --client-id" in without_id.err
    assert "set LOGTO_MANAGEMENT_CLIENT_SECRET" in without_secret.err


@pytest.mark.parametrize(
    ("exchange", "message"),
    [
        ("expired token", "status 401 auth.unauthorized; the token was rejected"),
        (
            "management token without scope all",
            "status 403 auth.forbidden; the machine-to-machine application has no access",
        ),
        ("unknown route", "status 404; look up the code"),
        ("page_size 100", ""),
    ],
)
def test_an_error_is_reported_by_its_code_alone(exchange: str, message: str) -> None:
    captured = EXCHANGES[exchange]
    answer = Answer.json(captured.answer, status=captured.status)
    with serve_captured() as server:
        server.replace("/api/resources", answer)
        api = ManagementApi(Transport(timeout_seconds=5), base_url=f"{server.endpoint}/api", token="the-token")
        if captured.status == 200:
            # Without Total-Number there is only one page.
            assert api.find_resource_id("https://api.example.test") == "oy1c0vcgl4v84ksvppfez"
            return
        with pytest.raises(CommandError) as caught:
            api.find_resource_id(API)

    assert message in str(caught.value)
    for secret in ("the-token", "u0zrzsm7rimtpxxxs7b86", "jti"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Fault.RESET, "ReadError"),
        (Answer.redirect("https://elsewhere.example/api/resources"), "status 302"),
        (Answer(body=b"<html>"), "expected JSON"),
        (Answer.json({}), "expected a list"),
        (Answer.json([1]), "expected a list"),
        (Answer(status=500, body=b"["), "status 500;"),
        (
            Answer(body=b'[{"id": "x"}]', headers={"Total-Number": "1000000"}),
            "expected at most 100 pages from /resources, found more",
        ),
    ],
    ids=["reset", "redirect", "html", "object", "numbers", "500", "endless"],
)
def test_a_response_that_nobody_expects_is_reported(answer: Answer | Fault, message: str) -> None:
    with serve_captured() as server:
        server.replace("/api/resources", answer)
        api = ManagementApi(Transport(timeout_seconds=5), base_url=f"{server.endpoint}/api", token="x")
        with pytest.raises(CommandError, match=message):
            api.find_resource_id(API)


@pytest.mark.parametrize(
    ("document", "status", "message"),
    [
        ({}, 201, "expected the id"),
        ({"code": "resource.resource_identifier_in_use"}, 422, "status 422 resource.resource_identifier_in_use"),
        ({"code": "<script>"}, 400, "status 400; look up"),
    ],
)
def test_a_resource_that_can_not_be_created_is_reported(document: object, status: int, message: str) -> None:
    async def answer(request: Request) -> Response:
        return JSONResponse([]) if request.method == "GET" else JSONResponse(document, status_code=status)

    issuer = LocalIssuer()
    with serve(issuer, app=Starlette(routes=[Route("/api/resources", answer, methods=["GET", "POST"])])):
        api = ManagementApi(Transport(timeout_seconds=5), base_url=f"{issuer.endpoint}/api", token="x")
        with pytest.raises(CommandError, match=message):
            api.create_resource(API, name="x")


def test_each_tenant_of_the_cloud_has_its_own_management_api() -> None:
    def find(endpoint: str) -> str:
        return find_management_resource(LogtoSettings(endpoint=endpoint, audience=API).endpoint)

    assert find("https://abc123.logto.app") == "https://abc123.logto.app/api"
    assert find("https://logto.example.com") == find("http://127.0.0.1:3001") == "https://default.logto.app/api"
    assert find_management_resource("http://abc123.logto.app") == "https://default.logto.app/api"


def build_app(*dependencies: Any) -> FastAPI:
    app = FastAPI()
    for number, dependency in enumerate(dependencies):
        app.get(f"/{number}", dependencies=[dependency])(lambda: None)
    return app


def test_scopes_belong_to_the_audience_of_the_scheme_that_requires_them() -> None:
    auth = LogtoAuth(endpoint="https://x.example", audience=API)
    other = auth.for_audience("urn:other")
    app = build_app(
        Depends(auth.require_scopes("a")),
        Depends(other.require_any_scope("b", "c")),
        Security(auth, scopes=["d"]),
        Depends(auth.require_organization("e")),
        Depends(auth),
    )
    app.get("/two", dependencies=[Depends(auth.require_scopes("a")), Depends(other.require_scopes("f"))])(lambda: None)

    required = {one.indicator: dict(one.scopes) for one in list_required(app)}
    in_organization = {one.indicator: dict(one.organization_scopes) for one in list_required(app)}

    assert in_organization == {API: {"e": ("GET /3",)}, "urn:other": {}}
    assert required == {
        API: {"a": ("GET /0", "GET /two"), "d": ("GET /2",)},
        "urn:other": {"b": ("GET /1",), "c": ("GET /1",), "f": ("GET /two",)},
    }
    (only,) = list_required(app, only=["urn:other"], without=["b"])
    assert dict(only.scopes) == {"c": ("GET /1",), "f": ("GET /two",)}


def test_scopes_that_logto_can_not_have_and_applications_without_any_are_refused(deploy: RunCli) -> None:
    auth = LogtoAuth(endpoint="https://x.example", audience=API)

    with pytest.raises(CommandError, match="1 to 256 characters without spaces, found 'a b'"):
        list_required(build_app(Security(auth, scopes=["a b"])))
    with pytest.raises(CommandError, match="expected protected routes, found no protected route"):
        list_required(build_app())
    ended = deploy("diff", "--resource", "urn:unknown")
    assert ended.code == 2
    assert f"expected routes of the API resource urn:unknown, found {API}" in ended.err


def test_an_application_of_several_tenants_is_refused(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(
        "from fastapi import Depends, FastAPI\nfrom fastapi_logto import LogtoAuth\napp = FastAPI()\n"
        "for name in ('a', 'b'):\n"
        "    one = LogtoAuth(endpoint=f'https://{name}.example', audience='urn:x')\n"
        "    app.get(f'/{name}', dependencies=[Depends(one)])(lambda: None)\n"
    )

    ended = cli("scopes", "diff", "several:app")

    assert ended.code == 2
    assert "expected protected routes of one tenant, found https://a.example, https://b.example" in ended.err


def test_a_long_list_of_routes_is_cut_in_a_description() -> None:
    auth = LogtoAuth(endpoint="https://x.example", audience=API)
    app = build_app(*[Depends(auth.require_scopes("a"))] * 100)
    with open_api() as (api, management):
        push(list_required(app), api, compare(list_required(app), api, tenant="x"), name="x")
        (resource,) = (one for one in management.resources.values() if one["indicator"] == API)
        description = management.scopes[resource["id"]][0]["description"]

    assert len(description) == 200
    assert description.startswith("For GET /0, GET /1, ")
    assert description.endswith("…")


def test_a_permission_that_can_not_be_created_is_reported() -> None:
    with open_api() as (api, management):
        resource = management.add_resource(API, "Mine")

        with pytest.raises(CommandError, match=r"creating the permission 'a b': status 400 scope\.name_with_space;"):
            api.create_scope(resource["id"], "a b", description="")


def test_a_complete_resource_is_not_changed_if_another_one_lacks_scopes() -> None:
    auth = LogtoAuth(endpoint="https://x.example", audience=API)
    app = build_app(Depends(auth.require_scopes("a")), Depends(auth.for_audience("urn:other").require_scopes("b")))
    with open_api() as (api, management):
        management.add_scopes(management.add_resource(API, "Mine"), "a")
        report = push(list_required(app), api, compare(list_required(app), api, tenant="x"), name="Other")

        assert (report.exit_code, report.is_pushed) == (0, True)
        assert (management.list_names(API), management.list_names("urn:other")) == (["a"], ["b"])


MEMBERS = """
@app.get("/members", dependencies=[Depends(auth.require_organization("read:member"))])
@app.post("/members", dependencies=[Depends(auth.require_organization("read:member", "write:member"))])
async def members(): ...
"""


@pytest.fixture
def deploy_members(deploy: RunCli, tmp_path: Path) -> RunCli:
    """The command line, with an application that also has routes of organizations."""
    file = tmp_path / "deployed.py"
    file.write_text(file.read_text() + MEMBERS)
    return deploy


def test_the_kind_of_organization_scopes_is_not_guessed(
    deploy_members: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    diff, push = deploy_members("diff"), deploy_members("push", "--yes")

    assert (diff.code, push.code) == (1, 2)
    assert f"Organization permissions at {tenant[0].endpoint}" in diff.out
    assert "✗  read:member   missing in Logto, here and in the API resource; choose with --organization" in diff.out
    assert "expected --organization-scopes organization or api, found neither" in push.err
    assert "read:member, write:member" in push.err
    assert {method for method, _ in tenant[1].requests} == {"GET"}


def test_organization_permissions_are_pushed(
    deploy_members: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    management = tenant[1]
    management.add_organization_scopes("other:thing", "write:member", description="kept")

    first = deploy_members("push", "--yes", "--organization-scopes", "organization")
    second = deploy_members("diff", "--exact", "--json")

    names = {scope["name"]: scope["description"] for scope in management.organization_scopes}
    assert first.code == second.code == 0
    assert names == {
        "other:thing": "kept",
        "write:member": "kept",
        "read:member": "For POST /members, GET /members",
    }
    assert management.list_names(API) == ["admin", "read:user", "write:user"]
    assert "–  other:thing   only in Logto; left unchanged" in first.out  # noqa: RUF001 - the mark itself
    assert json.loads(second.out)["organization"] == {
        "missing": [], "present": ["read:member", "write:member"], "extra": ["other:thing"], "undecided": [],
    }  # fmt: skip


def test_scopes_of_an_organization_may_be_permissions_of_the_api(
    deploy_members: RunCli, tenant: tuple[LocalIssuer, FakeManagement]
) -> None:
    management = tenant[1]

    first = deploy_members("push", "--yes", "--organization-scopes", "api")
    second = deploy_members("diff", "--exact", "--json")

    assert first.code == second.code == 0
    assert management.list_names(API) == ["admin", "read:member", "read:user", "write:member", "write:user"]
    assert management.organization_scopes == []
    assert json.loads(second.out)["organization"] == {"missing": [], "present": [], "extra": [], "undecided": []}


def test_a_scope_that_another_resource_holds_is_still_missing() -> None:
    auth = LogtoAuth(endpoint="https://x.example", audience=API)
    other = auth.for_audience("urn:other")
    app = build_app(Depends(auth.require_organization("e")), Depends(other.require_organization("e")))
    with open_api() as (api, management):
        management.add_scopes(management.add_resource(API, "Mine"), "e")
        management.add_resource("urn:other", "Other")
        before = compare(list_required(app), api, tenant="x")
        after = push(
            list_required(app), api, compare(list_required(app), api, tenant="x", kind="organization"), name="x"
        )

    assert before.organization is not None
    assert (before.exit_code, before.organization.undecided) == (1, ("e",))
    assert (after.exit_code, [scope["name"] for scope in management.organization_scopes]) == (0, ["e"])
    assert management.organization_scopes[0]["description"] == "For GET /0, GET /1"


def test_a_scope_that_is_required_without_an_organization_too_is_of_the_api() -> None:
    auth = LogtoAuth(endpoint="https://x.example", audience=API)
    strict = LogtoAuth(endpoint="https://x.example", audience=API, accept_organization_tokens=False)

    (both,) = list_required(build_app(Depends(auth.require_organization("a")), Depends(auth.require_scopes("a"))))
    (refused,) = list_required(build_app(Depends(strict.require_organization("a"))))

    assert (dict(both.scopes), dict(both.organization_scopes)) == ({"a": ("GET /0", "GET /1")}, {})
    assert (dict(refused.scopes), dict(refused.organization_scopes)) == ({"a": ("GET /0",)}, {})


def test_an_organization_permission_that_is_created_meanwhile_is_not_an_error() -> None:
    with open_api() as (api, management):
        management.add_organization_scopes("a", description="theirs")
        api.create_organization_scope("a", description="ours")

        assert [scope["description"] for scope in management.organization_scopes] == ["theirs"]


def test_a_created_resource_without_permissions_is_shown(deploy: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "deployed.py"
    file.write_text(file.read_text().partition("@app")[0] + "app.get('/', dependencies=[Depends(auth)])(print)\n")

    ended = deploy("push", "--yes")

    assert ended.code == 0
    assert "✓  API resource  in both" in ended.out
