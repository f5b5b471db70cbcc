"""Render results. Only this module handles colours and marks."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text  # noqa: TID251 - for annotations

from fastapi_logto.cli.doctor.diagnosis import Diagnosis
from fastapi_logto.cli.hooks import HookReport
from fastapi_logto.cli.inspection import Inspection
from fastapi_logto.cli.layout import Box, Grid, Listing
from fastapi_logto.cli.local import LocalUser, RunningIssuer
from fastapi_logto.cli.results import Check, Status
from fastapi_logto.cli.route_table import Protection, RouteTable
from fastapi_logto.cli.scopes import OrganizationDifference, ResourceDifference, ScopesReport
from fastapi_logto.cli.terminal import Terminal, build_text, escape
from fastapi_logto.strict_json import JsonObject, JsonValue

_MARKS: Final[dict[Status, tuple[str, str, str]]] = {
    "ok": ("✓", "+", "green"),
    "failed": ("✗", "x", "bold red"),
    "warning": ("!", "!", "yellow"),
    "skipped": ("–", "-", "dim"),  # noqa: RUF001 - the mark itself
}
_TOKEN: Final[dict[Protection, tuple[str, Status]]] = {
    "required": ("required", "ok"),
    "optional": ("optional", "warning"),
    "none": ("NOT PROTECTED", "failed"),
    "allowed": ("none, allowed", "skipped"),
    "signature": ("signed webhook", "ok"),
}


def _mark(status: Status, *, console: Terminal) -> Text:
    sign, plain, style = _MARKS[status]
    return build_text(sign if console.encoding.startswith("utf") else plain, style=style)


def render_diagnosis(diagnosis: Diagnosis, *, console: Terminal) -> RenderableType:
    """Render the result of `doctor`: a table for each section, and the next step."""
    parts: list[RenderableType] = []
    for section in diagnosis.sections:
        extra = _render_settings(diagnosis) if section.title == "Settings" else ()
        rows = [*extra, *section.checks]
        parts.append(_render_section(section.title, rows, console=console, next_step=diagnosis.next_step))
    if diagnosis.next_step:
        parts.append(Box(text=build_text(diagnosis.next_step), title="Next step", border_style="yellow"))
    else:
        has_warnings = any(check.status == "warning" for section in diagnosis.sections for check in section.checks)
        text = "No check failed; see the warnings." if has_warnings else "All checks passed."
        parts.append(build_text(text, style="bold yellow" if has_warnings else "bold green"))
    return Group(*parts)


def _render_settings(diagnosis: Diagnosis) -> Iterator[Check]:
    found = [setting for setting in diagnosis.settings if setting.source != "default"]
    for setting in found:
        source = {"environment": "the environment", "code": "the code"}.get(setting.source, setting.source)
        text = f"{setting.value} (from {source})"
        yield Check(name=setting.variable, status="ok", found=text)
    rest = len(diagnosis.settings) - len(found)
    if rest:
        yield Check(name=f"{rest} other{'s' * (rest > 1)}", status="ok", found="default; --json lists them")


def _render_section(title: str, checks: Iterable[Check], *, console: Terminal, next_step: str = "") -> Group:
    """Render one section. The advice shown as the next step, below all sections, is not repeated here."""
    rows: list[tuple[Text, Text]] = []
    for check in _join_skipped(checks):
        found = build_text(check.found, style="dim" if check.status == "skipped" else "")
        if check.advice and check.advice != next_step:
            found.append_text(build_text("", check.advice, style=_MARKS[check.status][2].removeprefix("bold ")))
        mark = _mark(check.status, console=console)
        rows.append((build_text("  ").join([mark, build_text(check.name)]), found))
    return Group(build_text(title, style="bold"), Listing(rows=rows, indent=2, name_width=15), build_text(""))


def _join_skipped(checks: Iterable[Check]) -> Iterator[Check]:
    """Yield the checks, with the skipped ones at the end joined into one row."""
    rows = list(checks)
    names: list[str] = []
    while rows and rows[-1].status == "skipped" and not rows[-1].found:
        names.insert(0, rows.pop().name)
    yield from rows
    if names:
        yield Check(name="Not reached", status="skipped", found=", ".join(names))


def render_inspection(inspection: Inspection, *, console: Terminal) -> RenderableType:
    """Render the result of `inspect`."""
    parts: list[RenderableType] = [_render_verdict(inspection)]
    facts = [("Kind", build_text(inspection.kind, style="bold"))]
    if inspection.problem:
        facts.append(("Problem", build_text(inspection.problem, style="red")))
    if inspection.subject:
        facts.append(("Subject", build_text(inspection.subject)))
    facts.append(("Accepted by", build_text(*inspection.admission)))
    rows = [(build_text(name), text) for name, text in facts]
    parts.extend([Listing(rows=rows, name_width=14), build_text("")])
    for title, members in (("Header", inspection.header), ("Claims", inspection.claims)):
        if members:
            words: Mapping[str, str] = inspection.times if title == "Claims" else {}
            parts.append(build_text(title, style="bold"))
            parts.extend([_render_members(members, words), build_text("")])
    if inspection.verification is not None:
        section = inspection.verification
        parts.append(_render_section(section.title, section.checks, console=console))
    return Group(*parts)


def _render_verdict(inspection: Inspection) -> Box:
    if inspection.is_verified:
        text = "VERIFIED: signature, issuer, audience and times are valid for this API."
        return Box(text=build_text(text, style="bold green"), border_style="green")
    if inspection.verification is not None:
        text = "NOT VERIFIED: a check failed, see Token below. Do not trust the contents of this token."
    else:
        text = "NOT VERIFIED: anyone can create such a token. Do not trust its contents; verify it with --verify."
    return Box(text=build_text(text, style="bold red"), border_style="red")


def _render_members(members: JsonObject, words: Mapping[str, str]) -> Listing:
    rows: list[tuple[Text, Text]] = []
    for name, value in members.items():
        text = build_text(_describe_value(value))
        if name in words:
            text.append_text(build_text(f"  {words[name]}", style="cyan"))
        rows.append((build_text(name), text))
    return Listing(rows=rows, indent=2, name_width=12)


def _describe_value(value: JsonValue) -> str:
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, list):
        return "[" + ", ".join(map(_describe_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_describe_value(member)}" for name, member in value.items()) + "}"
    return {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)


def render_issuer(running: RunningIssuer) -> RenderableType:
    """Render the description that `dev` prints."""
    rows = [
        (build_text(who.username, is_whole=True), *_render_held(who)) for who in (*running.users, *running.machines)
    ]
    parts: list[RenderableType] = [
        build_text(f"Local issuer {running.issuer}, for development only; Ctrl-C stops it", style="bold"),
        build_text("No password: anyone who can connect can sign in as any user.", style="yellow"),
        build_text(f"Page with all users and clients: {running.page}"),
        build_text(""),
        Grid(titles=("User or machine", "Scopes", "Organizations"), rows=rows),
        build_text(""),
        build_text("Put into .env:", style="bold"),
        _render_environment(running.environment),
    ]
    if running.next_command:
        heading = build_text("Then, in the folder of .env and in another terminal, get a token:", style="bold")
        parts.extend([build_text(""), heading, build_text(running.next_command, style="cyan", is_whole=True)])
    return Group(*parts)


def _render_environment(environment: Mapping[str, str]) -> Text:
    return build_text(*(f"{name}={value}" for name, value in environment.items()), style="cyan", is_whole=True)


def _render_held(who: LocalUser) -> tuple[Text, Text]:
    held = " ".join(scope for scopes in who.scopes.values() for scope in scopes)
    places = [f"{name}: {', '.join(scopes) or 'member without a role'}" for name, scopes in who.organizations.items()]
    return build_text(held), build_text(*places)


def render_routes(table: RouteTable, *, console: Terminal) -> RenderableType:
    """Render the result of `routes`."""
    rows: list[tuple[Text, ...]] = []
    for route in table.api_routes:
        word, status = _TOKEN[route.token]
        cells = (
            _mark(status, console=console),
            build_text(", ".join(route.methods)),
            build_text(route.path, is_whole=True),
            build_text(word, style=_MARKS[status][2], is_whole=True),
            build_text("; ".join(_list_needs(route.scopes, route.needs)).replace("`", "")),
        )
        rows.append(cells)
    grid = Grid(titles=("", "Method", "Path", "Token", "Requires"), rows=rows, leading=3)
    parts: list[RenderableType] = [grid, build_text("")]
    parts.extend(build_text(f"Problem: {problem}", style="bold red") for problem in table.problems)
    parts.append(build_text(_summarize(table), style="bold red" if table.unprotected else "bold green"))
    return Group(*parts)


def _summarize(table: RouteTable) -> str:
    tokens = [route.token for route in table.api_routes]
    if table.unprotected:
        verb = "is" if table.unprotected == 1 else "are"
        return f"{table.unprotected} of {_count_routes(len(tokens))} {verb} not protected."
    if not tokens:
        return "There are no API routes."
    required = tokens.count("required")
    verb = "requires" if required == 1 else "require"
    if required == len(tokens):
        return f"{'The' if required == 1 else 'All'} {_count_routes(required)} {verb} a token."
    return f"{required} of {_count_routes(len(tokens))} {verb} a token; for the others it is optional or not needed."


def _count_routes(count: int) -> str:
    return "1 API route" if count == 1 else f"{count} API routes"


def render_markdown(table: RouteTable) -> str:
    """Return the routes as a Markdown table."""
    lines = ["| Method | Path | Token | Requires |", "|---|---|---|---|"]
    for route in table.api_routes:
        path, needs = _build_cell(route.path), _build_cell("; ".join(_list_needs(route.scopes, route.needs)))
        word = _TOKEN[route.token][0]
        shown = f"**{word}**" if route.token == "none" else word  # noqa: S105 - whether a token is needed
        lines.append(f"| {', '.join(route.methods)} | `{path}` | {shown} | {needs} |")
    return "\n".join(lines)


def _build_cell(text: str) -> str:
    """Return a text that stays within one cell of a Markdown table."""
    return escape(text).replace("|", "\\|")


def _list_needs(scopes: tuple[str, ...], needs: tuple[str, ...]) -> list[str]:
    text = ", ".join(f"`{scope}`" for scope in scopes)
    return [*([f"{'scope' if len(scopes) == 1 else 'scopes'} {text}"] if scopes else []), *needs]


def render_scopes(report: ScopesReport, *, console: Terminal, advice: str = "") -> RenderableType:
    """Render the result of `scopes`. `advice` follows the sentence that scopes are missing."""
    parts: list[RenderableType] = []
    for resource in report.resources:
        rows = list(_list_scopes(resource))
        parts.append(_render_section(f"{resource.indicator} at {report.tenant}", rows, console=console))
    if report.organization is not None:
        rows = list(_list_organization_scopes(report.organization))
        parts.append(_render_section(f"Organization permissions at {report.tenant}", rows, console=console))
    if report.differs:
        text = f"Scopes are missing in Logto. {advice}".strip()
        parts.append(build_text(text, style="bold yellow"))
    elif report.exit_code:
        parts.append(build_text("Logto has permissions that no route requires.", style="bold yellow"))
    elif report.is_pushed:
        parts.append(build_text("Created. Logto has every scope in the code.", style="bold green"))
    else:
        parts.append(build_text("Logto has every scope in the code.", style="bold green"))
    return Group(*parts)


def _list_scopes(resource: ResourceDifference) -> Iterator[Check]:
    exists: tuple[Status, str] = ("ok", "in both") if resource.exists else ("failed", "missing in Logto")
    yield Check(name="API resource", status=exists[0], found=exists[1])
    yield from _list_permissions(resource)


def _list_permissions(difference: ResourceDifference | OrganizationDifference) -> Iterator[Check]:
    for scope in difference.present:
        yield Check(name=scope, status="ok", found="in both")
    for scope in difference.missing:
        yield Check(name=scope, status="failed", found="missing in Logto")
    for scope in difference.extra:
        yield Check(name=scope, status="skipped", found="only in Logto; left unchanged")


def _list_organization_scopes(difference: OrganizationDifference) -> Iterator[Check]:
    for scope in difference.undecided:
        found = "missing in Logto, here and in the API resource; choose with --organization-scopes"
        yield Check(name=scope, status="failed", found=found)
    yield from _list_permissions(difference)


def render_hook(report: HookReport, *, console: Terminal) -> RenderableType:
    """Render the result of `webhook push`."""
    rows = list(_list_hook(report))
    parts: list[RenderableType] = [_render_section(f"Webhook at {report.tenant}", rows, console=console)]
    if report.differs:
        parts.append(build_text("The webhook in Logto is missing, disabled or incomplete.", style="bold yellow"))
    else:
        text = "Done. Logto has the webhook." if report.is_pushed else "Logto has the webhook."
        parts.append(build_text(text, style="bold green"))
    if report.environment:
        parts.extend([build_text("Put into .env:", style="bold"), _render_environment(report.environment)])
    return Group(*parts)


def _list_hook(report: HookReport) -> Iterator[Check]:
    if report.hook_id is None:
        yield Check(name="Webhook", status="failed", found="missing in Logto")
    else:
        status: Status = "ok" if report.is_enabled else "failed"
        yield Check(name="Webhook", status=status, found="enabled" if report.is_enabled else "disabled")
    found = report.url if report.found_url is None else f"{report.found_url} in Logto, expected {report.url}"
    yield Check(name="URL", status="ok" if report.hook_id and report.found_url is None else "failed", found=found)
    for event in report.present:
        yield Check(name=event, status="ok", found="delivered")
    for event in report.missing:
        yield Check(name=event, status="failed", found="missing in Logto")
    for event in report.extra:
        yield Check(name=event, status="skipped", found="not needed; left unchanged")
