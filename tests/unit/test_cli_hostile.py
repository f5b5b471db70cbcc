"""No control character of a tenant, a token, a file, an application or an argument reaches the terminal."""

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from fastapi_logto.testing import LocalIssuer
from tests.captured import DISCOVERY_PATH, JWKS, JWKS_PATH, Answer, CapturedServer, serve_captured
from tests.conftest import RunCli
from tests.tenants import API
from tests.unit.test_cli_local import FILE

CONTROLS: Final = (
    "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b31m\x1b]8;;https://evil.example\x1b\\\r\nforged\t\u202e\u200b\xa0"
)
"""A title, a cleared screen, colours by ESC and by C1, a link, line breaks, a reversed and an invisible character."""

MARKUP: Final = "[/x][link=https://evil.example]click[/link][red]:warning:[/red]"
"""A text that Rich would parse as tags, the first of which closes none, and as an emoji."""

HOSTILE: Final = {"controls": CONTROLS, "markup": MARKUP}
SECRET: Final = "hunter2"
TOKEN: Final = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 60}
IMPORTS: Final = (
    "from fastapi import Depends, FastAPI\nfrom fastapi_logto import LogtoAuth\nauth, app = LogtoAuth(), FastAPI()\n"
)


@pytest.fixture(params=HOSTILE, name="text")
def hostile_text(request: pytest.FixtureRequest) -> str:
    return HOSTILE[str(request.param)]


@pytest.fixture
def server() -> Iterator[CapturedServer]:
    with serve_captured() as running:
        running.replace(DISCOVERY_PATH, Answer.json(_build_discovery(running)))
        running.replace("/oidc/auth", Answer.redirect("http://127.0.0.1:8000/docs/oauth2-redirect?code=c", status=303))
        running.replace(
            "/oidc/token",
            Answer.json({"access_token": "a.b.c", "token_type": "Bearer", "scope": "all", "expires_in": 60}),
        )
        running.replace("/api/resources", Answer.json([{"id": "r1", "indicator": API, "name": "Mine"}]))
        running.replace("/api/resources/r1/scopes", Answer.json([{"name": "read"}]))
        yield running


@pytest.fixture(autouse=True)
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An application named `hostile`, whose file the tests write."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    file = tmp_path / "hostile.py"
    file.write_text(f"{IMPORTS}app.get('/x', dependencies=[Depends(auth.require_scopes('read', 'write'))])(print)")
    sys.modules.pop("hostile", None)
    yield file
    sys.modules.pop("hostile", None)


def _build_discovery(server: CapturedServer, **more: object) -> dict[str, object]:
    base = f"{server.endpoint}/oidc"
    endpoints = {
        "token_endpoint": f"{base}/token",
        "authorization_endpoint": f"{base}/auth",
        "device_authorization_endpoint": f"{base}/device/auth",
    }
    return {"issuer": base, "jwks_uri": f"{base}/jwks", **endpoints, **more}


def _build_environment(server: CapturedServer) -> dict[str, str]:
    return {
        "LOGTO_ENDPOINT": server.endpoint,
        "LOGTO_AUDIENCE": API,
        "LOGTO_SWAGGER_CLIENT_ID": "spa",
        "LOGTO_MACHINE_ID": "machine",
        "LOGTO_MACHINE_SECRET": SECRET,
        "LOGTO_NATIVE_ID": "native",
        "LOGTO_NATIVE_DEVICE_ID": "device",
        "LOGTO_MANAGEMENT_CLIENT_ID": "machine",
        "LOGTO_MANAGEMENT_CLIENT_SECRET": SECRET,
    }


def check(ended: Any, *, codes: tuple[int, ...]) -> None:
    """Check that the output has only printable characters and line breaks, and that the exit code is one of these."""
    printed = ended.out + ended.err
    assert {one for one in printed if not one.isprintable()} <= {"\n"}
    assert "Traceback" not in printed
    assert SECRET not in printed
    assert ended.code in codes, printed


Change = Callable[[CapturedServer, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the tenant's responses that contains the text, and the commands that read it."""

    id: str
    change: Change
    commands: tuple[tuple[str, ...], ...]
    codes: tuple[int, ...]


DOCTOR: Final = (("doctor",), ("doctor", "--json"))
USER: Final = (("token", "--user", "alice"), ("token", "--user", "alice", "--organization", "acme", "--json"))
MACHINE: Final = (("token", "--machine"), ("token", "--machine", "--scope", "read", "--json"))
SIGN_IN: Final = (("token", "--sign-in"),)
DEVICE: Final = (("token", "--device"),)
CODES: Final = {"device_code": SECRET, "user_code": "A", "verification_uri": "https://a.example", "interval": 1}
SCOPES: Final = (("scopes", "diff", "hostile:app"), ("scopes", "diff", "hostile:app", "--json"))
PUSH: Final = (("scopes", "push", "hostile:app", "--yes"),)


def _discovery(**build: Callable[[str], object]) -> Change:
    def change(server: CapturedServer, text: str) -> None:
        values = {name: make(text) for name, make in build.items()}
        server.replace(DISCOVERY_PATH, Answer.json(_build_discovery(server, **values)))

    return change


def _key(**members: Callable[[str], object]) -> Change:
    def change(server: CapturedServer, text: str) -> None:
        entry: dict[str, Any] = {**JWKS["keys"][0], **{name: make(text) for name, make in members.items()}}
        server.replace(JWKS_PATH, Answer.json({"keys": [entry, {text: text}, text, [text]]}))

    return change


def _document(path: str, build: Callable[[str], object], *, status: int = 200, count: str = "1") -> Change:
    def change(server: CapturedServer, text: str) -> None:
        # All characters are escaped, so that there are also lone surrogates.
        body = json.dumps(build(text)).encode()
        server.replace(path, Answer(status=status, body=body, headers={"Total-Number": count}))

    return change


def _redirect(location: str) -> Change:
    return lambda server, text: server.replace(
        "/oidc/auth", Answer.redirect(location.format(quote(text, safe="")), status=303)
    )


def _itself(text: str) -> str:
    return text


PLACES: Final = (
    Place(id="the issuer of the discovery document", change=_discovery(issuer=_itself), commands=DOCTOR, codes=(1,)),
    Place(id="the URL of the key set", change=_discovery(jwks_uri=_itself), commands=DOCTOR, codes=(1,)),
    Place(
        id="the path of the key set",
        change=lambda server, text: _discovery(jwks_uri=lambda _: f"{server.endpoint}/{text}")(server, text),
        commands=DOCTOR,
        codes=(1,),
    ),
    Place(id="the URL of the token endpoint", change=_discovery(token_endpoint=_itself), commands=MACHINE, codes=(2,)),
    Place(id="the id of a key", change=_key(kid=_itself), commands=DOCTOR, codes=(1,)),
    Place(id="the type of a key", change=_key(kty=_itself, crv=_itself), commands=DOCTOR, codes=(1,)),
    Place(id="the algorithm of a key", change=_key(alg=_itself, use=_itself), commands=DOCTOR, codes=(1,)),
    Place(id="the coordinates of a key", change=_key(x=_itself, y=_itself), commands=DOCTOR, codes=(1,)),
    Place(
        id="the error of a sign-in",
        change=_redirect("?error={0}"),
        commands=(*DOCTOR, *USER, *SIGN_IN),
        codes=(1, 2),
    ),
    Place(
        id="the description of an error of a sign-in",
        change=_redirect("?error=access_denied&error_description={0}"),
        commands=(*USER, *SIGN_IN),
        codes=(2,),
    ),
    Place(
        id="the URL of the sign-in page",
        change=lambda server, text: _discovery(
            authorization_endpoint=lambda _: f"{server.endpoint}/{text}"
        )(server, text),
        commands=SIGN_IN,
        codes=(2,),
    ),
    Place(
        id="the error of a sign-in page",
        change=_document("/oidc/auth", lambda text: {"error": text, "code": text, "message": text}, status=400),
        commands=(*DOCTOR, *SIGN_IN),
        codes=(1, 2),
    ),
    Place(
        id="the codes for another device",
        change=_document(
            "/oidc/device/auth",
            lambda text: {**CODES, "user_code": text, "verification_uri_complete": f"https://a.example/{text}"},
        ),
        commands=DEVICE,
        codes=(2,),
    ),
    Place(
        id="the URL for another device",
        change=_document("/oidc/device/auth", lambda text: {**CODES, "verification_uri": text}),
        commands=DEVICE,
        codes=(2,),
    ),
    Place(
        id="the error of the endpoint for another device",
        change=_document("/oidc/device/auth", lambda text: {"error": text, "error_description": text}, status=400),
        commands=DEVICE,
        codes=(2,),
    ),
    Place(id="a redirect that is no URL", change=_redirect("http://[{0}"), commands=(*DOCTOR, *USER), codes=(1, 2)),
    Place(
        id="a redirect of many fields",
        change=lambda server, _: server.replace("/oidc/auth", Answer.redirect("?" + "a=b&" * 200, status=303)),
        commands=(*DOCTOR, *USER),
        codes=(1, 2),
    ),
    Place(
        id="the code of a sign-in", change=_redirect("?code={0}"), commands=USER, codes=(0, 2)
    ),
    Place(
        id="the error of the token endpoint",
        change=_document("/oidc/token", lambda text: {"error": text, "error_description": text}, status=400),
        commands=(*MACHINE, *USER, *SCOPES),
        codes=(2,),
    ),
    Place(
        id="the token",
        change=_document("/oidc/token", lambda text: {**TOKEN, "access_token": text}),
        commands=(*MACHINE, *USER, *SCOPES),
        codes=(2,),
    ),
    Place(
        id="the scopes and the refresh token",
        change=_document(
            "/oidc/token",
            lambda text: {**TOKEN, "scope": text, "refresh_token": text},
        ),
        commands=(*MACHINE, *USER, *SCOPES),
        codes=(0, 2),
    ),
    Place(
        id="the id of an API resource",
        change=_document("/api/resources", lambda text: [{"id": text, "indicator": API}]),
        commands=(*SCOPES, *PUSH),
        codes=(2,),
    ),
    Place(
        id="an API resource without an id",
        change=_document("/api/resources", lambda text: [{"name": text, "indicator": API}]),
        commands=(*SCOPES, *PUSH),
        codes=(2,),
    ),
    Place(
        id="the name of a permission",
        change=_document("/api/resources/r1/scopes", lambda text: [{"name": text}, {"name": "\ud800"}]),
        commands=(*SCOPES, *PUSH),
        codes=(1, 2),
    ),
    Place(
        id="a permission without a name",
        change=_document("/api/resources/r1/scopes", lambda text: [{text: text}]),
        commands=SCOPES,
        codes=(2,),
    ),
    Place(
        id="a count of too many digits",
        change=_document("/api/resources/r1/scopes", lambda _: [{"name": "read"}], count="9" * 5000),
        commands=SCOPES,
        codes=(1,),
    ),
    Place(
        id="a count in other digits",
        change=_document("/api/resources/r1/scopes", lambda _: [{"name": "read"}], count="\xb2"),
        commands=SCOPES,
        codes=(1,),
    ),
    Place(
        id="the code of an error of the Management API",
        change=_document("/api/resources", lambda text: {"code": text, "message": text}, status=422),
        commands=(*SCOPES, *PUSH),
        codes=(2,),
    ),
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.id)
def test_a_text_of_the_tenant_controls_no_terminal(
    place: Place, server: CapturedServer, cli: RunCli, text: str
) -> None:
    place.change(server, text)

    for arguments in place.commands:
        sys.modules.pop("hostile", None)
        check(cli(*arguments, **_build_environment(server)), codes=place.codes)


def _build_token(header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileToken:
    """An invalid token that contains the text."""

    id: str
    build: Callable[[str], str]
    arguments: tuple[tuple[str, ...], ...] = field(
        default=(("inspect",), ("inspect", "--json"), ("inspect", "--verify"), ("doctor", "--token-stdin"))
    )


def _fill(text: str) -> str:
    names = ("iss", "sub", "aud", "client_id", "scope", "organization_id", "act", "jti", "cnf", text)
    claims = {**dict.fromkeys(names, text), "exp": 1, "nbf": -1e300}
    return _build_token({"alg": text, "typ": text, "kid": text}, claims)


def _nest(text: str) -> str:
    return _build_token(
        {"alg": "ES384", "crit": [text]}, {"sub": text, "act": {"sub": text}, "a": [{text: [text, None]}]}
    )


def _name_organization(text: str) -> str:
    return _build_token({"alg": "ES384"}, {"aud": f"urn:logto:organization:{text}", "sub": text, "scope": text})


TOKENS: Final = (
    HostileToken(id="the whole", build=_itself),
    HostileToken(id="after a token", build=lambda text: f"{_build_token({}, {})}{text}"),
    HostileToken(id="every claim", build=_fill),
    HostileToken(id="claims in claims", build=_nest),
    HostileToken(id="an organization", build=_name_organization),
)


@pytest.mark.parametrize("row", TOKENS, ids=lambda row: row.id)
def test_a_text_of_a_token_controls_no_terminal(
    row: HostileToken, server: CapturedServer, cli: RunCli, text: str
) -> None:
    for arguments in row.arguments:
        check(cli(*arguments, stdin=row.build(text), **_build_environment(server)), codes=(0, 1))


def test_a_valid_token_controls_no_terminal_either(cli: RunCli, text: str) -> None:
    issuer = LocalIssuer()
    claims = {"sub": text, "scope": text, "client_id": text, text: text}
    with issuer.serve() as served:
        ended = cli(
            "doctor", "--token-stdin", "--scope", text,
            stdin=served.access_token(claims=claims), LOGTO_ENDPOINT=served.endpoint, LOGTO_AUDIENCE=API,
        )  # fmt: skip

    check(ended, codes=(0,))
    assert "✓  Signature" in ended.out


@pytest.mark.parametrize(
    "name",
    ["LOGTO_ENDPOINT", "LOGTO_AUDIENCE", "LOGTO_ISSUERS", "LOGTO_SWAGGER_CLIENT_ID", "LOGTO_MACHINE_ID",
     "LOGTO_ALGORITHMS", "LOGTO_LEEWAY_SECONDS"],
)  # fmt: skip
def test_a_variable_controls_no_terminal(name: str, server: CapturedServer, cli: RunCli, text: str) -> None:
    for arguments in (("doctor",), ("inspect",), ("token", "--machine"), ("token", "--user", "alice")):
        ended = cli(*arguments, stdin="x.y.z", **{**_build_environment(server), name: text})
        check(ended, codes=(0, 1, 2))


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "--{}",
        "doctor --{}",
        "inspect {}",
        "routes",
        "routes {}",
        "routes hostile:{}",
        "routes hostile:app --allow {}",
        "routes hostile:app --format {}",
        "dev --file {}",
        "dev --port {}",
        "doctor --env-file {}",
        "doctor --docs-url {}",
        "doctor --docs-url http://[{}",
        "doctor --docs-url http://127.0.0.1:0/{}",
        "token --user {}",
        "token --user alice --scope {} --client-id {} --resource {}",
        "token --machine --scope {} --client-id {} --organization {}",
        "scopes diff hostile:app --resource {}",
        "scopes diff hostile:app --management-resource {} --client-id {}",
    ],
)
def test_an_argument_controls_no_terminal(line: str, server: CapturedServer, cli: RunCli, text: str) -> None:
    environment = {} if "--env-file" in line else _build_environment(server)
    ended = cli(*(one.format(text) for one in line.split(" ")), stdin="x.y.z", **environment)

    check(ended, codes=(0, 1, 2))


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError({0!r})",
        "import sys; sys.exit({0!r})",
        "class Error(Exception):\n    def __str__(self): raise ValueError({0!r})\nraise Error",
        "app = type({0!r}, (), {{}})()",
        f"{IMPORTS}app.get('/' + {{0!r}})(print)",
        f"{IMPORTS}app.get('/x', dependencies=[Depends(auth.require_scopes({{0!r}}, 'a|b'))])(print)",
        f"{IMPORTS}app.get('/' + {{0!r}}, dependencies=[Depends(auth.require_organization())])(print)",
    ],
    ids=["an error", "an exit", "an error without a text", "no application", "a path", "a scope", "a problem"],
)
def test_a_text_of_an_application_controls_no_terminal(
    source: str, application: Path, server: CapturedServer, cli: RunCli, text: str
) -> None:
    application.write_text(source.format(text.replace("{", "").replace("/", "")), encoding="utf-8")

    for arguments in (
        ("routes", "hostile:app"),
        ("routes", "hostile:app", "--format", "markdown"),
        ("routes", "hostile:app", "--json"),
        ("scopes", "diff", "hostile:app"),
        ("scopes", "push", "hostile:app", "--yes"),
    ):
        sys.modules.pop("hostile", None)
        check(cli(*arguments, **_build_environment(server)), codes=(0, 1, 2))


def test_a_path_with_a_line_break_stays_in_its_cell(application: Path, cli: RunCli) -> None:
    application.write_text(
        "from fastapi import FastAPI\napp = FastAPI(openapi_url=None)\n@app.get('/a\\n|b')\nasync def x(): ..."
    )

    ended = cli("routes", "hostile:app", "--format", "markdown")

    assert ended.out.splitlines()[2] == "| GET | `/a\\n\\|b` | **NOT PROTECTED** |  |"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('username = "dora"', "username = {0}"),
        ('roles = ["reader", "writer"]', "roles = [{0}]"),
        ('id = "acme"', "id = {0}\nunknown = {0}"),
        ("redirect_uris = [", "redirect_uris = [{0}, "),
        ('"write:user" = "Change users"', "{0} = {0}"),
    ],
)
def test_a_text_of_the_file_of_users_controls_no_terminal(
    old: str, new: str, tmp_path: Path, cli: RunCli, text: str
) -> None:
    assert old in FILE
    (tmp_path / "people.toml").write_text(FILE.replace(old, new.format(json.dumps(text))), encoding="utf-8")

    # The port is in use, so the command also ends if the file is valid.
    with serve_captured() as other:
        check(cli("dev", "--file", "people.toml", "--port", str(other.port)), codes=(2,))


def test_a_name_of_a_file_controls_no_terminal(tmp_path: Path, cli: RunCli, text: str) -> None:
    name = text.replace("/", "")
    (tmp_path / name).write_bytes(b"\xff")

    for arguments in (
        ("dev", "--file", name),
        ("doctor", "--env-file", name),
        ("token", "--machine", "--env-file", name),
    ):
        check(cli(*arguments), codes=(2,))
