"""The pages of a local issuer: index, sign-in and error."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from fastapi_logto.testing.directory import Directory, User
from fastapi_logto.testing.issuer.authorization import IDENTITY_SCOPES, AuthorizationRequest
from fastapi_logto.testing.issuer.deliveries import Delivery
from fastapi_logto.testing.issuer.forms import Parameters
from fastapi_logto.testing.issuer.lookup import find_resource
from fastapi_logto.testing.issuer.refusals import RefusedError

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f4f5f7; --card: #fff; --text: #1c2430; --soft: #5c6675;
  --line: #dde1e7; --accent: #3d5af1; --on-accent: #fff; --warn: #fff3d1; --warn-text: #6b4a00; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --text: #e6e9ee; --soft: #9aa4b2;
  --line: #313845; --accent: #8ea2ff; --on-accent: #10131a; --warn: #3a2f10; --warn-text: #ffdf91; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 42rem; margin: 0 auto; padding: 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
h1 { margin: 1rem 0 .25rem; font-size: 1.4rem; } h2 { margin: 1.75rem 0 .5rem; font-size: 1rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.warn { padding: .75rem 1rem; background: var(--warn); color: var(--warn-text); border-radius: 8px; font-size: .9rem; }
code { font: .875em ui-monospace, monospace; overflow-wrap: anywhere; }
code.words { overflow-wrap: break-word; }
code + code { margin-left: .25em; }
fieldset { margin: 1.5rem 0 0; padding: 0; border: 0; } legend { padding: 0 0 .5rem; font-weight: 600; }
label { display: flex; gap: .75rem; align-items: flex-start; padding: .6rem .75rem; border: 1px solid var(--line);
  border-bottom-width: 0; cursor: pointer; }
label:first-of-type { border-radius: 8px 8px 0 0; }
label:last-of-type { border-bottom-width: 1px; border-radius: 0 0 8px 8px; }
label:only-of-type { border-radius: 8px; }
label input { margin: .3rem 0 0; accent-color: var(--accent); } label span { flex: 1; }
label small { display: block; color: var(--soft); font-size: .85rem; }
.badge { display: none; padding: .1rem .5rem; border: 1px solid var(--line); border-radius: 99px;
  color: var(--soft); font-size: .8rem; font-style: normal; }
fieldset + p { margin-top: .75rem; }
.actions { display: flex; gap: .75rem; margin-top: 1.5rem; }
button { padding: .55rem 1.25rem; border: 1px solid var(--line); border-radius: 8px; background: transparent;
  color: inherit; font: inherit; cursor: pointer; }
td form { display: inline-block; }
td button { margin: 0 .25rem .25rem 0; padding: .1rem .6rem; font-size: .85rem; white-space: nowrap; }
.scroll { overflow-x: auto; } td:last-child { overflow-wrap: anywhere; padding-right: 0; }
button[value=allow] { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th, td { padding: .45rem .75rem .45rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
@media (max-width: 30rem) { body { padding: .5rem; } main { padding: 1rem .75rem; }
  th, td { padding-right: .4rem; } td button { margin-right: 0; padding: .1rem .4rem; } }
"""
_MOST_DELIVERIES: Final = 10
_WARNING: Final = (
    '<p class="warn"><strong>A local issuer, for development only.</strong> '
    "It requires no password: anyone who opens this page can sign in as any user.</p>"
)
# `form:has(...)` shows the badges of the selected user without a script.
_BADGE_RULE: Final = (
    "form:has(#user-{0}:checked) .lacks-{0} {{ display: inline-block; }}\n"
    "form:has(#user-{0}:checked) label:has(.lacks-{0}) > span {{ opacity: .55; }}\n"
)


def _page(title: str, body: str, *, style: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{_WARNING}\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _codes(values: Iterable[str]) -> str:
    return " ".join(f"<code>{escape(value)}</code>" for value in values)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}</table></div>'


def _button(text: str, fields: Mapping[str, str]) -> str:
    hidden = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items())
    return f'<form method="post" action="changes">{hidden}<button>{escape(text)}</button></form>'


def _all_scopes(holder_scopes: Iterable[Iterable[str]]) -> str:
    names = [name for names in holder_scopes for name in names]
    return _codes(names) if names else '<span class="soft">none</span>'


def build_error_page(refusal: RefusedError) -> str:
    """Return the page for an error that must not be sent as a redirect."""
    return _page(
        "Sign-in failed",
        f"<p><code>{escape(refusal.error)}</code>: {escape(refusal.description)}</p>\n"
        '<p class="soft">The application that sent you here must correct its request.</p>',
    )


def build_signed_out_page() -> str:
    """Return the page after a sign-out that names no page to return to."""
    return _page("Signed out", '<p class="soft">You can close this page.</p>')


def build_index_page(directory: Directory, *, issuer: str, base_url: str, deliveries: Sequence[Delivery]) -> str:
    """Return the page that describes the issuer, its users and its clients, without secrets.

    Its buttons change users and organizations.
    """
    paths = (".well-known/openid-configuration", "jwks", "auth", "token", "me")
    clients = [
        (
            _codes([application.client_id]),
            f"{'third-party ' if application.is_third_party else ''}single-page app",
            "the user's scopes",
        )
        for application in directory.applications
    ] + [
        (_codes([machine.client_id]), "machine to machine", _all_scopes(machine.scopes.values()))
        for machine in directory.machines
    ]
    resources = [(_codes([resource.indicator]), _all_scopes([resource.scopes])) for resource in directory.resources]
    heads = ["User", "Name", "Scopes", "Change"]
    return _page(
        "Local issuer",
        f"<p>Behaves like Logto. Issuer <code>{escape(issuer)}</code></p>\n"
        f"<h2>Users</h2>\n{_table(heads, map(_describe_user, directory.users))}\n"
        f"{_build_organizations(directory)}"
        f"<h2>Clients</h2>\n{_table(['Client id', 'Kind', 'Scopes'], clients)}\n"
        f"<h2>API resources</h2>\n{_table(['Indicator', 'Scopes'], resources)}\n"
        f"<h2>Endpoints</h2>\n{_table(['URL'], [(_codes([f'{base_url}/oidc/{path}']),) for path in paths])}\n"
        f"{_build_deliveries(deliveries[:_MOST_DELIVERIES])}",
    )


def _describe_user(user: User) -> Sequence[str]:
    change = ("Unsuspend", "unsuspend") if user.is_suspended else ("Suspend", "suspend")
    return (
        f'{_codes([user.username])}<br><span class="soft">{_codes([user.id])}</span>',
        f"{escape(user.name)}{' (suspended)' if user.is_suspended else ''}",
        _all_scopes(user.scopes.values()),
        _button(change[0], {"action": change[1], "member": user.id})
        + _button("Delete", {"action": "delete", "member": user.id}),
    )


def _build_organizations(directory: Directory) -> str:
    names = {user.id: user.username for user in directory.users}
    rows = [
        (
            _codes([organization.id]),
            _codes([names.get(member, member)]),
            _all_scopes(scopes.values()),
            _button("Remove", {"action": "remove", "member": member, "organization": organization.id}),
        )
        for organization in directory.organizations
        for member, scopes in organization.members.items()
    ]
    return f"<h2>Organizations</h2>\n{_table(['Id', 'Member', 'Scopes', 'Change'], rows)}\n" if rows else ""


def _build_deliveries(deliveries: Sequence[Delivery]) -> str:
    rows = [
        (
            f"{datetime.fromtimestamp(delivery.created_at / 1000, UTC):%H:%M:%S}",
            f'<code class="words">{escape(delivery.event).replace(".", ".<wbr>")}</code>',
            escape(_describe_result(delivery)),
        )
        for delivery in deliveries
    ]
    return f"<h2>Last webhook deliveries</h2>\n{_table(['Time (UTC)', 'Event', 'Result'], rows)}" if rows else ""


def _describe_result(delivery: Delivery) -> str:
    if delivery.status is not None:
        return f"{delivery.result}: status {delivery.status}"
    return f"{delivery.result}: {delivery.error}"


def build_sign_in_page(request: AuthorizationRequest, *, parameters: Parameters, directory: Directory) -> str:
    """Return the page to select a user and the scopes to grant.

    The form repeats the request's parameters as they were sent, and they are checked again when it is submitted.
    """
    users = [user for user in directory.users if not user.is_suspended]
    hinted = next((i for i, user in enumerate(users) if user.username == request.login_hint), 0)
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">\n'
        for name, value in parameters.pairs
        if name not in {"user", "grant", "action"}
    )
    rows = "".join(
        f'<label><input type="radio" name="user" id="user-{i}" value="{escape(user.username)}"'
        f"{' checked' if i == hinted else ''} required><span>{escape(user.name)}"
        f"<small>{_codes([user.username])} has {_all_scopes([sorted(request.list_held(user))])}</small>"
        "</span></label>\n"
        for i, user in enumerate(users)
    )
    return _page(
        f"Sign in to {request.address.client.client_id}",
        f'<p class="soft">The response is sent to <code>{escape(request.address.redirect_uri)}</code></p>\n'
        f'<form method="post" action="auth">\n{hidden}<fieldset>\n<legend>Who are you?</legend>\n{rows}</fieldset>\n'
        f"{_build_scopes(request, users=users, directory=directory)}"
        '<p class="actions"><button name="action" value="allow">Continue</button>'
        '<button name="action" value="cancel" formnovalidate>Cancel</button></p>\n</form>',
        style="".join(_BADGE_RULE.format(i) for i in range(len(users))),
    )


def _build_scopes(request: AuthorizationRequest, *, users: Sequence[User], directory: Directory) -> str:
    known = {
        name: description
        for resource in (find_resource(directory, one) for one in request.resources)
        if resource is not None
        for name, description in resource.scopes.items()
    }
    lacking = {
        scope: " ".join(f"lacks-{i}" for i, user in enumerate(users) if scope not in request.list_held(user))
        for scope in request.api_scopes
    }
    rows = "".join(
        f'<label><input type="checkbox" name="grant" value="{escape(scope)}" checked><span>{_codes([scope])}'
        f"<small>{escape(known.get(scope, 'no requested resource has this scope'))}</small></span>"
        f'<em class="badge {classes}">not held</em></label>\n'
        for scope, classes in lacking.items()
    )
    fieldset = f"<fieldset>\n<legend>What may the application do?</legend>\n{rows}</fieldset>\n" if rows else ""
    identity = [scope for scope in request.scopes if scope in IDENTITY_SCOPES]
    lines = [
        f'<p class="soft">{text} {_codes(values)}</p>\n'
        for text, values in (("For", request.resources), ("Also requested:", identity))
        if values
    ]
    return fieldset + "".join(lines)
