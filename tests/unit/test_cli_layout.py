"""Values that a user copies from the output are never split, even on a narrow terminal."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import RenderableType

from fastapi_logto.cli.doctor.diagnosis import Diagnosis
from fastapi_logto.cli.doctor.settings import FoundSetting
from fastapi_logto.cli.hooks import HookReport
from fastapi_logto.cli.inspection import Inspection
from fastapi_logto.cli.layout import Box, Grid, Listing
from fastapi_logto.cli.local import describe_issuer
from fastapi_logto.cli.rendering import (
    render_diagnosis,
    render_hook,
    render_inspection,
    render_issuer,
    render_routes,
    render_scopes,
)
from fastapi_logto.cli.results import Check, Section
from fastapi_logto.cli.route_table import RouteRow, RouteTable
from fastapi_logto.cli.scopes import OrganizationDifference, ResourceDifference, ScopesReport
from fastapi_logto.cli.terminal import build_text, open_terminal, print_result
from fastapi_logto.testing import Directory, LocalIssuer, Resource, User

WIDTHS = (80, 60, 30)
URL = "https://api.example.com/a/path/that/is/longer/than/every/one/of/these/terminals?and=it-has-a-query-too"
PATH = "/organizations/{organization_id}/members/{member_id}/permissions/{permission_id}"
SCOPE = "read:organization-members-and-their-permissions"
ID = "abcdefghij0123456789klmnop"


def show(
    rendered: RenderableType, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Return what a command prints on a terminal of a width."""
    monkeypatch.setenv("COLUMNS", str(width))
    print_result(None, is_json=False, rendered=rendered)
    return capsys.readouterr().out


def build_diagnosis() -> RenderableType:
    checks = (
        Check(name="Audience", status="ok", found=URL),
        Check(name=SCOPE, status="failed", found=f"expected {ID}, found {URL}", advice=f"Open {URL}."),
        Check(name="Redirect URI", status="warning", found=URL, advice=f"See {URL}."),
        Check(name="CORS", status="skipped"),
    )
    diagnosis = Diagnosis(
        settings=(FoundSetting(variable="LOGTO_ACCEPT_SUBPROTOCOL_TOKENS", value=URL, source="code"),),
        sections=(Section(title="Settings", checks=checks), Section(title="Tenant", checks=())),
        exit_code=1,
        next_step=f"Open {URL}.",
    )
    return render_diagnosis(diagnosis, console=open_terminal())


def build_inspection() -> RenderableType:
    inspection = Inspection(
        is_verified=False,
        kind="access token for a global API resource",
        subject=f"user {ID}",
        header={"kid": ID * 2, "alg": "ES384"},
        claims={"iss": URL, "scope": f"{SCOPE} read:user", "a_custom_claim_with_a_long_name_of_its_own": ID, "exp": 1},
        times={"exp": "1970-01-01 00:00:01 UTC, long ago"},
        admission=(f"routes for {URL}",),
        problem="",
        verification=None,
    )
    return render_inspection(inspection, console=open_terminal())


def build_issuer() -> RenderableType:
    resource = Resource(indicator=URL, scopes={SCOPE: "", "read:user": ""})
    user = User(id=ID, username=ID, name=ID, scopes={URL: (SCOPE, "read:user")})
    return render_issuer(describe_issuer(LocalIssuer(directory=Directory(resources=[resource], users=[user]))))


def build_routes() -> RenderableType:
    rows = (
        RouteRow(path=PATH, methods=("GET", "DELETE", "PATCH"), token="required", scopes=(SCOPE,), needs=("a user",)),
        RouteRow(path="/health", methods=("GET",), token="none", scopes=(), needs=()),
    )
    return render_routes(RouteTable(routes=rows, unprotected=1, problems=(), exit_code=0), console=open_terminal())


def build_scopes() -> RenderableType:
    resource = ResourceDifference(indicator=URL, exists=True, missing=(SCOPE,), present=(), extra=("read:user",))
    organization = OrganizationDifference(missing=(), present=(), extra=(), undecided=(f"{SCOPE}-{ID}",))
    report = ScopesReport(
        tenant="https://t.logto.app", resources=(resource,), organization=organization, is_pushed=False, exit_code=1
    )
    return render_scopes(report, console=open_terminal())


def build_hook() -> RenderableType:
    report = HookReport(
        tenant="https://t.logto.app",
        hook_id=ID,
        url=URL,
        found_url=f"{URL}2",
        present=("Organization.Membership.Updated",),
        environment={"LOGTO_WEBHOOK_SIGNING_KEY": ID * 3},
        exit_code=1,
    )
    return render_hook(report, console=open_terminal())


COMMANDS = {
    "doctor": (build_diagnosis, (URL, SCOPE, ID, "LOGTO_ACCEPT_SUBPROTOCOL_TOKENS")),
    "inspect": (build_inspection, (URL, SCOPE, ID * 2, "a_custom_claim_with_a_long_name_of_its_own")),
    "dev": (build_issuer, (f"LOGTO_AUDIENCE={URL}", SCOPE, ID, f"fastapi-logto token --user {ID}")),
    "routes": (build_routes, (PATH, SCOPE, "NOT PROTECTED")),
    "scopes": (build_scopes, (URL, SCOPE, f"{SCOPE}-{ID}")),
    "webhook": (build_hook, (URL, f"{URL}2", "Organization.Membership.Updated", ID * 3)),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_user_copies_is_in_one_piece(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build, values = COMMANDS[command]
    shown = show(build(), width, monkeypatch, capsys)

    for value in values:
        assert re.search(rf"(^|[ =/]){re.escape(value)}($|[ .,;])", shown, re.MULTILINE), value


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_only_a_word_longer_than_the_terminal_makes_a_longer_line(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build, values = COMMANDS[command]
    shown = show(build(), width, monkeypatch, capsys)

    for line in shown.splitlines():
        assert len(line) <= width or len(line.split()) == 1 or any(value in line for value in values), line


def test_a_route_that_does_not_fit_takes_several_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(build_routes(), 80, monkeypatch, capsys).splitlines()[:6] == [
        "✓ GET, DELETE, PATCH",
        PATH,
        "  Token: required",
        f"  Requires: scope {SCOPE}; a user",
        "✗ GET /health",
        "  Token: NOT PROTECTED",
    ]
    assert show(build_routes(), 200, monkeypatch, capsys).splitlines()[:3] == [
        f"   Method              Path{' ' * (len(PATH) - 4)}  Token          Requires",
        f"✓  GET, DELETE, PATCH  {PATH}  required       scope {SCOPE}; a user",
        f"✗  GET                 /health{' ' * (len(PATH) - 7)}  NOT PROTECTED",
    ]


def test_a_name_or_a_text_that_does_not_fit_leaves_the_other_rows_as_they_are() -> None:
    rows = [
        (build_text("Key"), build_text("kid K1")),
        (build_text("Audience"), build_text(f"found {URL}")),
        (build_text(SCOPE), build_text("missing in Logto")),
        (build_text(f"{SCOPE}-again"), build_text("")),
    ]

    assert lay_out(Listing(rows=rows, indent=2, name_width=4), 40) == [
        "  Key       kid K1",
        "  Audience",
        "      found",
        f"      {URL}",
        f"  {SCOPE}",
        "      missing in Logto",
        f"  {SCOPE}-again",
    ]


def test_a_text_that_does_not_fit_into_a_box_is_shown_without_it() -> None:
    assert lay_out(Box(text=build_text("Open it."), title="Next step", border_style=""), 20) == [
        "╭─ Next step ──────╮",
        "│ Open it.         │",
        "╰──────────────────╯",
    ]
    assert lay_out(Box(text=build_text(f"Open {URL}"), title="Next step", border_style=""), 20) == [
        "Next step:",
        "Open",
        URL,
    ]
    assert lay_out(Box(text=build_text(URL), border_style=""), 20) == [URL]


def lay_out(rendered: RenderableType, width: int) -> list[str]:
    terminal = open_terminal()
    terminal.width = width
    with terminal.capture() as captured:
        terminal.show(rendered)
    return captured.get().splitlines()


words = st.text(st.sampled_from("abé漢-:/"), min_size=1, max_size=40)
texts = st.lists(words, min_size=1, max_size=6)


@given(rows=st.lists(st.tuples(words, words, texts), max_size=4), width=st.integers(10, 90))
def test_a_grid_breaks_no_word(rows: list[tuple[str, str, list[str]]], width: int) -> None:
    cells = [
        (build_text(who), build_text(path, is_whole=True), build_text(" ".join(needs))) for who, path, needs in rows
    ]
    shown = lay_out(Grid(titles=("A", "B", "C"), rows=cells, leading=2), width)

    assert sorted(word for line in shown for word in line.split() if word not in {"A", "B", "C", "C:"}) == sorted(
        word for who, path, needs in rows for word in (who, path, *needs)
    )
    check_widths(shown, width)


@given(rows=st.lists(st.tuples(words, texts), min_size=1, max_size=4), width=st.integers(10, 90))
def test_a_listing_breaks_no_word_and_keeps_the_order(rows: list[tuple[str, list[str]]], width: int) -> None:
    cells = [(build_text(name), build_text(" ".join(found))) for name, found in rows]
    shown = lay_out(Listing(rows=cells, indent=2, name_width=4), width)

    assert [word for line in shown for word in line.split()] == [
        word for name, found in rows for word in (name, *found)
    ]
    check_widths(shown, width)


@given(lines=st.lists(texts, min_size=1, max_size=3), width=st.integers(10, 90))
def test_a_text_breaks_no_word_and_keeps_the_order(lines: list[list[str]], width: int) -> None:
    shown = lay_out(build_text(*(" ".join(line) for line in lines)), width)

    assert [word for line in shown for word in line.split()] == [word for line in lines for word in line]
    check_widths(shown, width)


def check_widths(lines: Sequence[str], width: int) -> None:
    """Check that a line is longer than the terminal only if its words can't be on separate lines."""
    for line in lines:
        assert cell_len(line) <= width or len(line.split()) == 1
