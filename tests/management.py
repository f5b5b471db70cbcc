"""A tenant with a Management API that responds like a real Logto 1.42: `data/captured/management-api.json`."""

import json
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from fastapi_logto.testing import Directory, LocalIssuer, Machine, Resource
from tests.tenants import serve

MANAGEMENT: Final = "https://default.logto.app/api"
_FILE: Final = Path(__file__).parent / "data/captured/management-api.json"
_UNPROCESSABLE: Final = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request to a real Logto, and its response."""

    name: str
    method: str
    path: str
    query: str
    body: Any
    status: int
    headers: dict[str, str]
    answer: Any


def _read() -> dict[str, Exchange]:
    raw = json.loads(_FILE.read_text(encoding="utf-8"))["exchanges"]
    return {
        one["name"]: Exchange(
            name=one["name"],
            method=one["request"]["method"],
            path=one["request"]["path"],
            query=one["request"]["query"] or "",
            body=one["request"]["body"],
            status=one["response"]["status"],
            headers=one["response"]["headers"],
            answer=one["response"]["body"],
        )
        for one in raw
    }


EXCHANGES: Final = _read()


class FakeManagement:
    """The Management API: resources and scopes in memory, with captured errors."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self._issuer = issuer
        self.resources: dict[str, dict[str, Any]] = {}
        self.scopes: dict[str, list[dict[str, Any]]] = {}
        self.organization_scopes: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str]] = []
        self.forgets = False
        self.add_resource(MANAGEMENT, "Logto Management API")
        self.app = Starlette(
            routes=[
                Route("/api/resources", self._list_resources, methods=["GET"]),
                Route("/api/resources", self._create_resource, methods=["POST"]),
                Route("/api/resources/{id}/scopes", self._list_scopes, methods=["GET"]),
                Route("/api/resources/{id}/scopes", self._create_scope, methods=["POST"]),
                Route("/api/organization-scopes", self._list_organization_scopes, methods=["GET"]),
                Route("/api/organization-scopes", self._create_organization_scope, methods=["POST"]),
                Mount("/", issuer.app),
            ]
        )

    def add_resource(self, indicator: str, name: str) -> dict[str, Any]:
        resource: dict[str, Any] = {
            "tenantId": "default",
            "id": secrets.token_hex(10) + "x",
            "name": name,
            "indicator": indicator,
            "isDefault": False,
            "accessTokenTtl": 3600,
        }
        self.resources[resource["id"]] = resource
        self.scopes[resource["id"]] = []
        return resource

    def add_scopes(self, resource: dict[str, Any], *names: str, description: str | None = None) -> None:
        for name in names:
            self.scopes[resource["id"]].append(
                {
                    "tenantId": "default",
                    "id": secrets.token_hex(10) + "x",
                    "resourceId": resource["id"],
                    "name": name,
                    "description": description or None,
                    "createdAt": 1_795_449_387_496,
                }
            )

    def add_organization_scopes(self, *names: str, description: str | None = None) -> None:
        for name in names:
            identity = {"tenantId": "default", "id": secrets.token_hex(10) + "x"}
            self.organization_scopes.append({**identity, "name": name, "description": description})

    def list_names(self, indicator: str) -> list[str]:
        (resource,) = (one for one in self.resources.values() if one["indicator"] == indicator)
        return [scope["name"] for scope in self.scopes[resource["id"]]]

    def _refuse(self, request: Request) -> Response | None:
        self.requests.append((request.method, f"{request.url.path}?{request.url.query}".rstrip("?")))
        header = request.headers.get("authorization", "")
        if not header:
            return _answer("no token")
        token = header.removeprefix("Bearer ")
        claims = self._issuer.read_access_token(token)
        if claims is None or claims["aud"] != MANAGEMENT:
            # Like Logto, with the claims of this token.
            payload: Any = json.loads(urlsafe_b64decode(token.split(".")[1] + "==")) if token.count(".") == 2 else None
            document = EXCHANGES["expired token"].answer
            return JSONResponse({**document, "data": {**document["data"], "payload": payload}}, status_code=401)
        if "all" not in str(claims.get("scope", "")).split():
            return _answer("management token without scope all")
        return None

    async def _list_resources(self, request: Request) -> Response:
        return self._refuse(request) or self._page(request, list(self.resources.values()), always=False)

    async def _list_scopes(self, request: Request) -> Response:
        entries = self.scopes.get(request.path_params["id"], [])
        return self._refuse(request) or self._page(request, entries, always=True)

    async def _list_organization_scopes(self, request: Request) -> Response:
        return self._refuse(request) or self._page(request, self.organization_scopes, always=False)

    async def _create_organization_scope(self, request: Request) -> Response:
        refusal, body = self._refuse(request), await request.json()
        if refusal is not None:
            return refusal
        if any(scope["name"] == body["name"] for scope in self.organization_scopes):
            # Another code than for the permission of a resource, as Logto's own tests require.
            document = {"code": "entity.unique_integrity_violation", "message": "The entity already exists."}
            return JSONResponse(document, status_code=_UNPROCESSABLE)
        self.add_organization_scopes(body["name"], description=body.get("description"))
        return JSONResponse(self.organization_scopes[-1], status_code=201)

    def _page(self, request: Request, entries: list[dict[str, Any]], *, always: bool) -> Response:
        query = request.query_params
        if not always and "page" not in query and "page_size" not in query:
            return JSONResponse(entries)
        page, size = query.get("page", "1"), query.get("page_size", "20")
        if not page.isdigit() or not size.isdigit() or int(page) < 1 or not 1 <= int(size) <= 100:
            return _answer("page_size too large")
        start = (int(page) - 1) * int(size)
        last = max(1, -(-len(entries) // int(size)))
        # Like Logto, the links lack /api and lead to the sign-in page.
        url = f"{str(request.base_url).rstrip('/')}{request.url.path.removeprefix('/api')}"

        def link(number: int, rel: str) -> str:
            return f'<{url}?{urlencode({**query, "page": number})}>; rel="{rel}"'

        links = [link(1, "first")]
        if int(page) > 1:
            links.append(link(int(page) - 1, "prev"))
        links.append(link(last, "last"))
        if int(page) < last:
            links.append(link(int(page) + 1, "next"))
        headers = {"Total-Number": str(len(entries)), "Link": ", ".join(links)}
        return JSONResponse(entries[start : start + int(size)], headers=headers)

    async def _create_resource(self, request: Request) -> Response:
        refusal, body = self._refuse(request), await request.json()
        if refusal is not None:
            return refusal
        if not body.get("name") or not body.get("indicator"):
            return _answer("create with empty name" if not body.get("name") else "create with empty indicator")
        if any(one["indicator"] == body["indicator"] for one in self.resources.values()):
            message = f"The API identifier {body['indicator']} is already in use"
            return JSONResponse(
                {"code": "resource.resource_identifier_in_use", "message": message}, status_code=_UNPROCESSABLE
            )
        return JSONResponse({**self.add_resource(body["indicator"], body["name"]), "scopes": []}, status_code=201)

    async def _create_scope(self, request: Request) -> Response:
        refusal, body = self._refuse(request), await request.json()
        resource = self.resources.get(request.path_params["id"])
        if refusal is not None:
            return refusal
        if resource is None:
            return _answer("create scope on unknown resource")
        name = body["name"]
        if resource["indicator"] == MANAGEMENT:
            return _answer("add scope to management API")
        if name.split() != [name]:
            return _answer("create scope, name with space")
        if any(scope["name"] == name for scope in self.scopes[resource["id"]]):
            message = f"The scope name {name} is already in use"
            return JSONResponse({"code": "scope.name_exists", "message": message}, status_code=_UNPROCESSABLE)
        self.add_scopes(resource, name, description=body.get("description"))
        created = self.scopes[resource["id"]][-1]
        if self.forgets:
            self.scopes[resource["id"]].clear()
        return JSONResponse(created, status_code=201)


def _answer(name: str) -> Response:
    exchange = EXCHANGES[name]
    if isinstance(exchange.answer, str):
        return PlainTextResponse(exchange.answer, status_code=exchange.status)
    return JSONResponse(exchange.answer, status_code=exchange.status)


@contextmanager
def serve_management() -> Generator[tuple[LocalIssuer, FakeManagement]]:
    """Serve a tenant: the machine `deployer` has access to its Management API, `stranger` has not."""
    directory = Directory(
        resources=[Resource(indicator=MANAGEMENT, scopes={"all": ""}), Resource(indicator="https://api.example.test")],
        machines=[
            Machine(client_id="deployer", client_secret="deployer-secret", scopes={MANAGEMENT: ["all"]}),
            Machine(client_id="stranger", client_secret="stranger-secret"),
        ],
    )
    issuer = LocalIssuer(directory=directory)
    management = FakeManagement(issuer)
    with serve(issuer, app=management.app):
        yield issuer, management
