"""The list of `routes`, its marks, and its errors if there is no application."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from fastapi_logto.cli.results import CommandError
from fastapi_logto.cli.route_table import list_routes
from tests.conftest import RunCli

APP = """
from fastapi import Depends, FastAPI, Security, WebSocket
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from fastapi_logto import LogtoAuth, OrganizationSource

auth = LogtoAuth(endpoint="https://tenant.example", audience="https://api.example.com")
other = auth.for_audience("urn:other")
app = FastAPI()
print("imported")

@app.get("/plain", dependencies=[Depends(auth)])
@app.get("/scopes", dependencies=[Depends(auth.require_scopes("read:user", "a|b"))])
@app.get("/any", dependencies=[Depends(auth.require_any_scope("read:user", "write:user"))])
@app.get("/security", dependencies=[Security(auth, scopes=["read:user"])])
@app.get("/of/{organization_id}", dependencies=[Depends(auth.require_organization("read:user"))])
@app.get("/optional", dependencies=[Depends(auth.optional)])
@app.get("/not-so-optional", dependencies=[Security(auth.optional, scopes=["read:user"])])
@app.get("/both", dependencies=[Depends(auth.optional), Depends(auth)])
@app.get("/open")
@app.get("/nothing", dependencies=[Depends(lambda: None)])
async def handler(): ...

@app.websocket("/ws", dependencies=[Depends(auth)])
async def ws(websocket: WebSocket): ...

async def starlette(request): ...

app.mount("/static", StaticFiles(directory="."))
app.mount("/inner", Starlette(routes=[Route("/x/{name:path}", starlette), WebSocketRoute("/ws", starlette)]))
inner = FastAPI()
inner.get("/deep", dependencies=[Depends(auth.require_user())])(handler)
app.mount("/v1", GZipMiddleware(inner))

def build():
    return app

number = 1
"""

EXPECTED: dict[str, tuple[str, list[str]]] = {
    "/plain": ("required", []),
    "/scopes": ("required", ["read:user", "a|b"]),
    "/any": ("required", []),
    "/security": ("required", ["read:user"]),
    "/of/{organization_id}": ("required", ["read:user"]),
    "/optional": ("optional", []),
    "/not-so-optional": ("required", ["read:user"]),
    "/both": ("required", []),
    "/open": ("none", []),
    "/nothing": ("none", []),
    "/ws": ("required", []),
    "/static": ("none", []),
    "/inner/x/{name}": ("none", []),
    "/inner/ws": ("none", []),
    "/v1/deep": ("required", []),
    "/openapi.json": ("documentation", []),
    "/docs": ("documentation", []),
    "/docs/oauth2-redirect": ("documentation", []),
    "/redoc": ("documentation", []),
    "/v1/openapi.json": ("documentation", []),
    "/v1/docs": ("documentation", []),
    "/v1/docs/oauth2-redirect": ("documentation", []),
    "/v1/redoc": ("documentation", []),
}


@pytest.fixture
def project(cli: RunCli, tmp_path: Path) -> Iterator[RunCli]:
    """The command line in the directory of an application named `web`."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path[:] = [one for one in sys.path if one]
    (tmp_path / "web.py").write_text(APP)
    yield cli
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name in {"web", "broken", "gone", "quits", "package", "package.web"}:
            del sys.modules[name]


def test_every_route_is_listed_with_what_it_requires(project: RunCli) -> None:
    ended = project("routes", "web:app", "--json")

    table = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "imported\n")
    assert {row["path"]: (row["token"], row["scopes"]) for row in table["routes"]} == EXPECTED
    assert len(table["routes"]) == len(EXPECTED)
    assert table["unprotected"] == 5
    rows = {row["path"]: row for row in table["routes"]}
    assert rows["/ws"]["methods"] == rows["/inner/ws"]["methods"] == ["WEBSOCKET"]
    assert rows["/static"]["methods"] == ["MOUNT"]
    assert rows["/any"]["needs"] == ["one of the scopes `read:user`, `write:user`"]
    assert rows["/v1/deep"]["needs"] == ["a user as the caller"]


@pytest.mark.parametrize("target", ["web", "web:app", "web:build()"])
def test_the_table_marks_what_is_not_protected(project: RunCli, target: str) -> None:
    ended = project("routes", target)

    lines = {line.split()[2]: line for line in ended.out.splitlines()[1:16]}
    assert lines["/open"].split() == ["✗", "GET", "/open", "NOT", "PROTECTED"]
    assert lines["/optional"].split() == ["!", "GET", "/optional", "optional"]
    assert lines["/scopes"].split() == ["✓", "GET", "/scopes", "required", "scopes", "read:user,", "a|b"]
    assert ended.out.rstrip().endswith("5 of 15 API routes are not protected.")


def test_markdown_is_a_table_whose_cells_stay_whole(project: RunCli) -> None:
    ended = project("routes", "web:app", "--format", "markdown")

    lines = ended.out.splitlines()
    assert lines[:2] == ["| Method | Path | Token | Requires |", "|---|---|---|---|"]
    assert "| GET | `/scopes` | required | scopes `read:user`, `a\\|b` |" in lines
    assert "| GET | `/open` | **NOT PROTECTED** |  |" in lines
    # FastAPI's own pages are only in the JSON.
    shown = [path for path, (token, _) in EXPECTED.items() if token != "documentation"]
    assert len(lines) == 2 + len(shown)


def test_json_is_the_same_by_either_option(project: RunCli) -> None:
    by_format = project("routes", "web:app", "--format", "json").out

    assert by_format == project("routes", "web:app", "--json", "--format", "markdown").out


def test_a_pipeline_fails_where_a_route_is_open_and_was_not_allowed(project: RunCli) -> None:
    allowed = ["/open", "/nothing", "/static", "/inner/x/{name}", "/inner/ws"]

    def run(*paths: str) -> int:
        return project("routes", "web:app", "--fail-unprotected", *(f"--allow={path}" for path in paths)).code

    assert run() == run(*allowed[1:]) == 1
    assert run(*allowed) == 0


def test_a_path_that_is_allowed_must_exist(project: RunCli) -> None:
    ended = project("routes", "web:app", "--allow", "/heatlh")

    assert ended.code == 2
    assert ended.err.endswith("fastapi-logto: --allow: expected paths of routes, found /heatlh; remove or correct\n")


def test_a_requirement_that_can_not_work_is_a_problem_that_fails(project: RunCli, tmp_path: Path) -> None:
    more = '@app.get("/lost", dependencies=[Depends(auth.require_organization())])\nasync def lost(): ...\n'
    (tmp_path / "web.py").write_text(APP + more)

    ended = project("routes", "web:app")

    assert ended.code == 1
    assert "Problem: /lost: expected the path parameter {organization_id} that names the organization" in ended.out


@pytest.mark.parametrize(
    ("target", "files", "message"),
    [
        ("gone:app", {}, "expected a module gone, found none in "),
        ("package.web:app", {"package/__init__.py": ""}, "or the installed packages; run the command"),
        ("web:nothing", {}, "expected nothing in the module web; AttributeError: module 'web' has no attribute"),
        ("web:number", {}, "expected a FastAPI application with routes, found int"),
        ("a/b.py", {}, "expected module:app, found 'a/b.py'; did you mean a.b:app?"),
        ("", {}, "expected module:app, found ''; did you mean main:app?"),
        ("./web.py:build()", {}, "found './web.py:build()'; did you mean main:app?"),
        ("./web.py:api", {}, "found './web.py:api'; did you mean web:api?"),
        ("web.app", {}, "or the installed packages; did you mean web:app? Otherwise, run the command in the directory"),
        ("web:application", {}, "has no attribute 'application'; did you mean web:app or web:inner?"),
        ("broken:app", {"broken.py": "x = 1\n"}, "module 'broken' has no attribute 'app'\n"),
        ("broken:app", {"broken.py": "\n\nimport not_there\n"}, "No module named 'not_there' (%s/broken.py:3)"),
        (
            "broken:app",
            {"broken.py": "def f():\n    raise ValueError('boom')\nf()\n"},
            "ValueError: boom (%s/broken.py:2)",
        ),
        ("broken:app", {"broken.py": "x = 1\nx ="}, "SyntaxError: invalid syntax (%s/broken.py:2)"),
        ("quits:app", {"quits.py": "import sys\nsys.exit('no settings')\n"}, "SystemExit: no settings (%s/quits.py:2)"),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    project: RunCli, tmp_path: Path, target: str, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    ended = project("routes", target)

    assert (ended.code, ended.out) == (2, "")
    error = ended.err.removeprefix("imported\n")
    assert error.startswith("fastapi-logto: ")
    assert message.replace("%s", str(tmp_path)) in error
    assert error.count("\n") == 1


def test_an_application_of_starlette_has_routes_without_protection() -> None:
    def endpoint(_request: Request) -> Response:
        return Response()

    app = Starlette()
    app.add_route("/x", endpoint, methods=["POST"])

    table = list_routes(app, fails_unprotected=True)

    assert [(row.path, row.methods, row.token) for row in table.routes] == [("/x", ("POST",), "none")]
    assert (table.problems, table.exit_code) == ((), 1)


def test_an_overridden_check_requires_no_token(project: RunCli, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(APP + "app.dependency_overrides[auth] = lambda: None\n")

    rows = json.loads(project("routes", "web:app", "--json").out)["routes"]

    assert {row["path"]: row["token"] for row in rows}["/plain"] == "none"


def test_an_application_without_routes_is_an_error() -> None:
    with pytest.raises(CommandError, match="found Starlette"):
        list_routes(Starlette())


def test_an_application_with_only_docs_pages_has_no_unprotected_route(project: RunCli, tmp_path: Path) -> None:
    text = "from fastapi import FastAPI\napp = FastAPI()\n"
    (tmp_path / "web.py").write_text(text)

    assert project("routes", "web:app").out.rstrip().endswith("There are no API routes.")


@pytest.mark.parametrize(
    ("dependency", "summary"),
    [
        ("auth", "All 2 API routes require a token."),
        ("auth.optional", "1 of 2 API routes requires a token; for the others it is optional or not needed."),
        ("lambda: None", "1 of 2 API routes is not protected."),
    ],
)
def test_the_table_ends_with_a_summary(project: RunCli, tmp_path: Path, dependency: str, summary: str) -> None:
    text = (
        "from fastapi import Depends, FastAPI\nfrom fastapi_logto import auth\napp = FastAPI()\n"
        "@app.get('/a', dependencies=[Depends(auth)])\nasync def a(): ...\n"
        f"@app.get('/b', dependencies=[Depends({dependency})])\nasync def b(): ...\n"
    )
    (tmp_path / "web.py").write_text(text)

    assert project("routes", "web:app").out.rstrip().endswith(summary)


@pytest.mark.parametrize(
    ("dependency", "summary"),
    [("auth", "The 1 API route requires a token."), ("lambda: None", "1 of 1 API route is not protected.")],
)
def test_the_summary_of_one_route_is_in_the_singular(
    project: RunCli, tmp_path: Path, dependency: str, summary: str
) -> None:
    text = (
        "from fastapi import Depends, FastAPI\nfrom fastapi_logto import auth\napp = FastAPI()\n"
        f"@app.get('/a', dependencies=[Depends({dependency})])\nasync def a(): ...\n"
    )
    (tmp_path / "web.py").write_text(text)

    out = project("routes", "web:app").out
    assert out.rstrip().endswith(summary)
    assert "/openapi.json" not in out


def test_a_route_for_signed_webhooks_needs_no_token_and_is_marked(project: RunCli, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(
        "from fastapi import FastAPI\n"
        "from fastapi_logto import LogtoAuth\n"
        "from fastapi_logto.revocation import Revocations\n"
        "revocations = Revocations()\n"
        "auth = LogtoAuth(endpoint='https://a.example', audience='https://api', revocations=revocations)\n"
        "app = FastAPI()\n"
        "app.include_router(revocations.webhooks(signing_key='key'))\n"
    )

    ended = project("routes", "web:app", "--fail-unprotected")

    (line,) = [line for line in ended.out.splitlines() if "/webhooks/logto" in line]
    assert (ended.code, line.split()) == (0, ["✓", "POST", "/webhooks/logto", "signed", "webhook"])
    assert "| signed webhook |" in project("routes", "web:app", "--format", "markdown").out
