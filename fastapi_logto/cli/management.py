"""Logto's Management API for API resources, permissions and webhooks. This module deletes nothing."""

import json
import re
from typing import Final, cast
from urllib.parse import urlencode

from fastapi_logto.cli.machines import Credentials, get_token
from fastapi_logto.cli.requests import send
from fastapi_logto.cli.results import CommandError
from fastapi_logto.client.errors import GrantError
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import RawResponse, Request, Transport
from fastapi_logto.redaction import quote
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, parse_value

_PAGE_SIZE: Final = 100
_MOST_PAGES: Final = 100
_COUNT: Final = re.compile(r"[0-9]{1,9}\Z", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z", re.ASCII)
_CODE: Final = re.compile(r"[a-z][a-z0-9_.]{0,79}\Z", re.ASCII)
_OK, _CREATED, _UNAUTHORIZED, _FORBIDDEN, _UNPROCESSABLE = 200, 201, 401, 403, 422
_ADVICE: Final = {
    _UNAUTHORIZED: "the token was rejected; check that --management-resource is the Management API of this tenant",
    _FORBIDDEN: "the machine-to-machine application has no access; give it a machine role with the permission `all` of "
    "the Logto Management API (console: Roles)",
}


def sign_in(
    settings: LogtoSettings, credentials: Credentials, *, resource: str, transport: Transport
) -> "ManagementApi":
    """Return the Management API of a tenant, with a token that has the scope `all`."""
    try:
        issued = get_token(settings, credentials, resource=resource, scopes=["all"])
    except GrantError as error:
        raise CommandError(f"expected a token for the Management API, found none: {error}") from None
    if "all" not in issued.scopes:
        raise CommandError(f"{resource}: {_ADVICE[_FORBIDDEN]}")
    return ManagementApi(transport, base_url=f"{settings.fetch_base}/api", token=issued.token)


class ManagementApi:
    """The API resources of a tenant, their permissions, the organization permissions, and the webhooks."""

    def __init__(self, transport: Transport, *, base_url: str, token: str) -> None:
        """Store the base URL and the token, which appears in no `repr`, error or log."""
        self._transport = transport
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}"}

    def find_resource_id(self, indicator: str) -> str | None:
        """Return the ID of the API resource with exactly this indicator; the API has no filter for it."""
        entries = self._list("/resources")
        return next((_read_id(entry) for entry in entries if entry.get("indicator") == indicator), None)

    def list_scopes(self, resource_id: str) -> list[str]:
        """Return the names of a resource's permissions, from all pages. By default Logto returns only 20 entries."""
        return self._list_names(f"/resources/{resource_id}/scopes")

    def list_organization_scopes(self) -> list[str]:
        """Return the names of the organization permissions, from all pages."""
        return self._list_names("/organization-scopes")

    def create_resource(self, indicator: str, *, name: str) -> str:
        """Create an API resource and return its ID, or the ID of one created concurrently by someone else."""
        response = self._send("POST", "/resources", document={"name": name, "indicator": indicator})
        if response.status == _UNPROCESSABLE and _find_code(response) == "resource.resource_identifier_in_use":
            existing = self.find_resource_id(indicator)
            if existing is not None:
                return existing
        if response.status != _CREATED:
            raise _explain(response, f"creating the API resource {indicator}")
        document = _read(response)
        return _read_id(document if isinstance(document, dict) else {})

    def create_scope(self, resource_id: str, name: str, *, description: str) -> None:
        """Create a permission; leave an existing one unchanged."""
        self._create(f"/resources/{resource_id}/scopes", name, description=description, taken="scope.name_exists")

    def create_organization_scope(self, name: str, *, description: str) -> None:
        """Create an organization permission; leave an existing one unchanged."""
        self._create("/organization-scopes", name, description=description, taken="entity.unique_integrity_violation")

    def list_hooks(self) -> list[JsonObject]:
        """Return the webhooks, with their signing keys."""
        return self._list("/hooks")

    def create_hook(self, document: JsonObject) -> JsonObject:
        """Create a webhook, and return it with its signing key."""
        return self._write("POST", "/hooks", document, expected=_CREATED, what="creating the webhook")

    def update_hook(self, hook_id: str, document: JsonObject) -> JsonObject:
        """Replace members of a webhook, and return it."""
        return self._write("PATCH", f"/hooks/{hook_id}", document, expected=_OK, what="updating the webhook")

    def rotate_signing_key(self, hook_id: str) -> JsonObject:
        """Replace the signing key of a webhook, and return the webhook. Deliveries with the old key end at once."""
        path = f"/hooks/{hook_id}/signing-key"
        return self._write("PATCH", path, {}, expected=_OK, what="replacing the signing key")

    def _write(self, method: str, path: str, document: JsonObject, *, expected: int, what: str) -> JsonObject:
        response = self._send(method, path, document=document)
        if response.status != expected:
            raise _explain(response, what)
        found = _read(response)
        return found if isinstance(found, dict) else {}

    def _create(self, path: str, name: str, *, description: str, taken: str) -> None:
        response = self._send("POST", path, document={"name": name, "description": description})
        is_there = response.status == _UNPROCESSABLE and _find_code(response) == taken
        if response.status != _CREATED and not is_there:
            raise _explain(response, f"creating the permission {quote(name)}")

    def _list_names(self, path: str) -> list[str]:
        names = [entry.get("name") for entry in self._list(path)]
        if not all(isinstance(name, str) for name in names):
            raise CommandError("Management API: expected permissions with names, found one without")
        return cast("list[str]", names)

    def _list(self, path: str) -> list[JsonObject]:
        entries: list[JsonObject] = []
        # Pages are requested by number. The URLs in the `Link` header lack /api, and a token is never sent to a link.
        for page in range(1, _MOST_PAGES + 1):
            query = {"page": str(page), "page_size": str(_PAGE_SIZE)}
            response = self._send("GET", f"{path}?{urlencode(query)}")
            if response.status != _OK:
                raise _explain(response, f"reading {path}")
            found = _read(response)
            if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
                raise CommandError(f"Management API: expected a list from {path}, found something else")
            entries.extend(cast("list[JsonObject]", found))
            total = response.headers.get("total-number", "")
            if not found or not _COUNT.match(total) or len(entries) >= int(total):
                return entries
        raise CommandError(f"Management API: expected at most {_MOST_PAGES} pages from {path}, found more")

    def _send(self, method: str, path: str, *, document: JsonObject | None = None) -> RawResponse:
        url, headers, body = f"{self._base_url}{path}", self._headers, ""
        if document is not None:
            headers, body = {**headers, "Content-Type": "application/json"}, json.dumps(document)
        try:
            return send(self._transport, url, Request(method=method, headers=headers, body=body))
        except ExchangeError as error:
            raise CommandError(f"Management API: {url.partition('?')[0]}: {error}") from None


def _read(response: RawResponse) -> JsonValue:
    try:
        return parse_value(response.body)
    except StrictJsonError:
        raise CommandError("Management API: expected JSON, found something else") from None


def _read_id(resource: JsonObject) -> str:
    """Return the ID of a resource, checked because it becomes a part of URLs."""
    found = resource.get("id")
    if not isinstance(found, str) or not _ID.match(found):
        raise CommandError(f"Management API: expected the id of an API resource, found {quote(found)}")
    return found


def _find_code(response: RawResponse) -> str:
    """Return Logto's error code, and nothing else of the body: a 401 response repeats the token's claims."""
    try:
        document = _read(response)
    except CommandError:
        return ""
    code = document.get("code") if isinstance(document, dict) else None
    return code if isinstance(code, str) and _CODE.match(code) else ""


def _explain(response: RawResponse, what: str) -> CommandError:
    code = _find_code(response)
    advice = _ADVICE.get(response.status, "look up the code in Logto's documentation")
    return CommandError(f"Management API: {what}: status {response.status}{f' {code}' if code else ''}; {advice}")
