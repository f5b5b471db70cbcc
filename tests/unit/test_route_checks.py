"""Errors at the start of an application because of its routes."""

import pathlib
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, ForwardRef, TypeAlias

import pytest
from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    Path,
    Query,
    UploadFile,
    WebSocket,
    routing,
)
from fastapi.security import HTTPBasic, OAuth2AuthorizationCodeBearer
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from typing_extensions import TypeAliasType

from fastapi_logto import LogtoAuth, OrganizationSource, SettingsError, TokenClaims, mount_protected
from fastapi_logto.description.route_checks import check_routes
from fastapi_logto.description.routes import iter_routes
from fastapi_logto.testing import LocalIssuer, bearer
from tests.unit.apps import API, build_organization_router

HERE = FilePath(__file__).parent


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture
def logto(issuer: LocalIssuer) -> LogtoAuth:
    return issuer.auth()


@pytest.mark.parametrize("above", ["router", "application", "mount"])
def test_a_plain_scheme_above_an_organization_is_refused_at_start(logto: LogtoAuth, above: str) -> None:
    app = FastAPI(dependencies=[Depends(logto)] if above == "application" else [])
    inner = FastAPI() if above == "mount" else app
    inner.include_router(build_organization_router(logto, *([] if above == "application" else [logto.optional])))
    if above == "mount":
        app.mount("/v1", inner)
    logto.install(app)

    with (
        pytest.raises(SettingsError, match=r"/of/\{organization_id\}/members: it requires an organization"),
        TestClient(app),
    ):
        pass


WRAPPERS: dict[str, Callable[[FastAPI], Any]] = {
    "middleware around": lambda app: [Mount("/v1", GZipMiddleware(app))],
    "middleware of the mount": lambda app: [Mount("/v1", app, middleware=[Middleware(GZipMiddleware)])],
    "an application between": lambda app: [Mount("/v1", Starlette(routes=[Mount("/v2", app)]))],
    "a host": lambda app: [Host("api.example.com", app)],
    "a router": lambda app: [Mount("/v1", app.router)],
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_mounted_application_is_found_behind_any_wrapper(logto: LogtoAuth, name: str) -> None:
    inner = FastAPI()
    inner.include_router(build_organization_router(logto, logto))
    app = FastAPI()
    app.router.routes.extend(WRAPPERS[name](inner))

    with pytest.raises(SettingsError, match="requires an organization"):
        check_routes(app)


def test_optional_above_an_organization_is_refused_like_its_scheme(logto: LogtoAuth) -> None:
    app = FastAPI(dependencies=[Depends(logto.optional)])
    app.include_router(build_organization_router(logto))

    with pytest.raises(SettingsError, match="requires an organization"):
        check_routes(app)


def test_the_organization_may_be_in_the_path_of_a_mount(issuer: LocalIssuer, logto: LogtoAuth) -> None:
    inner, app, router = FastAPI(), FastAPI(), APIRouter()

    @inner.get("/members", dependencies=[Depends(logto.require_organization())])
    async def read() -> bool:
        return True

    app.mount("/of/{organization_id:str}", inner)
    router.mount("/sub", inner)
    app.include_router(router, prefix="/in/{organization_id}")
    check_routes(app)

    client = TestClient(app)
    paths = ["/of/A/members"]
    if hasattr(routing, "iter_route_contexts"):
        # Older versions of FastAPI omit mounts in a router that is included.
        paths.append("/in/A/sub/members")
    for path in paths:
        assert client.get(path, headers=bearer(issuer.organization_token("A"))).status_code == 200
        assert client.get(path, headers=bearer(issuer.organization_token("B"))).status_code == 403


def test_requirements_of_an_organization_on_each_level_are_accepted(logto: LogtoAuth) -> None:
    app = FastAPI()
    app.include_router(
        build_organization_router(
            logto,
            logto.require_organization(),
            logto.require(organization=OrganizationSource.from_path(), caller="user"),
        )
    )
    logto.install(app)

    with TestClient(app):
        pass


def test_a_path_without_its_organization_is_refused_at_start(logto: LogtoAuth) -> None:
    app = FastAPI()

    @app.websocket("/members")
    async def watch(
        websocket: WebSocket, claims: Annotated[TokenClaims, Depends(logto.require_organization())]
    ) -> None: ...

    with pytest.raises(SettingsError, match=r"/members: expected the path parameter \{organization_id\}"):
        check_routes(app)


def test_claims_that_would_come_from_the_body_are_refused_at_start(logto: LogtoAuth) -> None:
    app = FastAPI()

    async def inner(claims: list[TokenClaims]) -> int:
        return len(claims)

    @app.post("/plain")
    async def plain(claims: TokenClaims) -> str:
        return claims.user_id

    @app.post("/optional")
    async def optional(maybe: TokenClaims | None = None) -> bool:
        return maybe is None

    @app.post("/inner", dependencies=[Depends(inner)])
    async def outer() -> bool:
        return True

    @app.get("/good")
    async def good(claims: Annotated[TokenClaims, Depends(logto)]) -> TokenClaims:
        return claims

    with pytest.raises(SettingsError) as caught:
        check_routes(app)

    lines = str(caught.value).splitlines()
    assert [line.partition(" to come from a dependency, found no dependency")[0] for line in lines] == [
        "/plain: expected parameter claims",
        "/optional: expected parameter maybe",
        "/inner: expected parameter claims",
    ]


IGNORED = (
    "Depends(...) in a place that FastAPI ignores, so it would read the parameter from the request; write "
    "Annotated[..., Depends(...)] around the whole type, and define its alias without the keyword `type`, which only "
    "FastAPI 0.129 and later understand"
)


async def find_user_id() -> str:
    return "me"


UserId: TypeAlias = Annotated[str, Depends(find_user_id)]


async def with_a_default_in_a_union(user: UserId | None = None) -> str | None:
    return user


async def in_a_list(user: list[UserId]) -> list[str]:
    return user


async def of_a_dependency(found: Annotated[str | None, Depends(with_a_default_in_a_union)]) -> str | None:
    return found


@pytest.mark.parametrize(
    "handler", [with_a_default_in_a_union, in_a_list, of_a_dependency], ids=lambda one: one.__name__
)
def test_a_dependency_that_fastapi_would_ignore_is_refused_at_start(handler: Callable[..., Any]) -> None:
    app = FastAPI()
    app.post("/a")(handler)

    with pytest.raises(SettingsError) as caught:
        check_routes(app)
    assert str(caught.value) == f"/a: expected parameter user to come from a dependency, found {IGNORED}"


def test_a_named_type_either_works_or_is_refused_at_start(issuer: LocalIssuer, logto: LogtoAuth) -> None:
    async def find_caller(claims: Annotated[TokenClaims, Depends(logto)]) -> str:
        return claims.user_id

    # The same object as that of `type Caller = Annotated[...]`.
    caller = TypeAliasType("caller", Annotated[str, Depends(find_caller)])  # pyright: ignore[reportGeneralTypeIssues] - of a test

    async def read(user: str = "nobody") -> str:
        return user

    read.__annotations__["user"] = caller
    app = FastAPI()
    logto.install(app)
    app.get("/a")(read)

    if next(route for route in iter_routes(app) if route.path == "/a").is_protected:
        with TestClient(app) as client:
            headers = bearer(issuer.access_token(subject="me"))
            assert client.get("/a?user=somebody", headers=headers).json() == "me"
            assert client.get("/a?user=somebody").status_code == 401
        return
    # FastAPI before 0.129.
    with pytest.raises(SettingsError) as caught, TestClient(app):
        pass
    assert str(caught.value) == f"/a: expected parameter user to come from a dependency, found {IGNORED}"


async def with_an_unknown_name(claims: object = None) -> None:
    """Never gets claims, because FastAPI ignores a name that it does not find."""


# Like a type that is imported below `if TYPE_CHECKING`.
with_an_unknown_name.__annotations__["claims"] = ForwardRef("Unknown")


def test_an_annotation_that_fastapi_cannot_evaluate_is_refused_at_start() -> None:
    app = FastAPI()
    app.get("/a")(with_an_unknown_name)

    with pytest.raises(SettingsError) as caught:
        check_routes(app)
    assert str(caught.value) == (
        "/a: expected parameter claims to come from a dependency, found the annotation 'Unknown', which FastAPI can't "
        "evaluate, so it would read the parameter from the request; remove `from __future__ import annotations` or the "
        "quotes, or define the names in the module, before the route"
    )


def test_a_quoted_annotation_with_a_local_name_is_refused(logto: LogtoAuth) -> None:
    local = logto

    async def read(claims: "Annotated[TokenClaims | None, Depends(local.optional)]" = None) -> bool:
        return claims is None

    def start() -> None:
        # Older versions of FastAPI refuse it themselves when the route is declared.
        app = FastAPI()
        app.get("/a")(read)
        check_routes(app)

    with pytest.raises((SettingsError, NameError), match="local"):
        start()


class Filter(BaseModel):
    organization_id: str = "none"


class AliasedFilter(BaseModel):
    owner: str = Field("none", alias="organization_id")


class ListedFilter(BaseModel):
    owner: str = Field("none", validation_alias=AliasPath("organization_id", 0))


class CamelFilter(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    organization_id: str = "none"


FilterAlias = TypeAliasType("FilterAlias", Filter)


class Page:
    def __init__(self, organization_id: str, page: int = 1) -> None:
        self.organization_id, self.page = organization_id, page


def find_members(page: Annotated[Page, Depends(Page)]) -> int:
    return page.page


async def by_query(organization_id: str) -> None: ...
async def by_optional_query(organization_id: str | None = None) -> None: ...
async def by_query_alias(org: Annotated[str, Query(alias="organization_id")]) -> None: ...
async def by_query_choices(
    org: Annotated[str, Query(validation_alias=AliasChoices("org", "organization_id"))],
) -> None: ...
async def by_query_of_another_name(organization_id: Annotated[str, Query(alias="parent")]) -> None: ...
async def by_camel_query(organizationId: str) -> None: ...  # noqa: N803 - as some APIs write it
async def by_several_queries(organization_id: Annotated[list[str], Query()]) -> None: ...
async def by_path_and_query(
    organization_id: Annotated[str, Path()], org: Annotated[str, Query(alias="organization-id")]
) -> None: ...
async def by_header(organization_id: Annotated[str, Header()]) -> None: ...
async def by_header_alias(org: Annotated[str, Header(alias="Organization-Id")]) -> None: ...
async def by_cookie(organization_id: Annotated[str, Cookie()]) -> None: ...
async def by_form(organization_id: Annotated[str, Form()]) -> None: ...
async def by_file(organization_id: UploadFile) -> None: ...
async def by_body(organization_id: Annotated[str, Body(embed=True)]) -> None: ...
async def by_query_model(found: Annotated[Filter, Query()]) -> None: ...
async def by_alias_of_a_query_model(found: Annotated[AliasedFilter, Query()]) -> None: ...
async def by_path_alias_of_a_query_model(found: Annotated[ListedFilter, Query()]) -> None: ...
async def by_generated_alias(found: Annotated[CamelFilter, Query()]) -> None: ...
async def by_named_type(found: Annotated[FilterAlias, Query()]) -> None: ...
async def by_header_model(found: Annotated[Filter, Header()]) -> None: ...
async def by_cookie_model(found: Annotated[Filter, Cookie()]) -> None: ...
async def by_form_model(found: Annotated[Filter, Form()]) -> None: ...
async def by_dependency(page: Annotated[Page, Depends()]) -> None: ...
async def by_dependency_of_a_dependency(found: Annotated[int, Depends(find_members)]) -> None: ...


UNCHECKED: list[tuple[Callable[..., Any], str]] = [
    (by_query, "query parameter organization_id"),
    (by_optional_query, "query parameter organization_id"),
    (by_query_alias, "query parameter org"),
    (by_query_choices, "query parameter org"),
    (by_query_of_another_name, "query parameter organization_id"),
    (by_camel_query, "query parameter organizationId"),
    (by_several_queries, "query parameter organization_id"),
    (by_path_and_query, "query parameter org"),
    (by_header, "header parameter organization_id"),
    (by_header_alias, "header parameter org"),
    (by_cookie, "cookie parameter organization_id"),
    (by_form, "body parameter organization_id"),
    (by_file, "body parameter organization_id"),
    (by_body, "body parameter organization_id"),
    (by_query_model, "query parameter organization_id"),
    (by_alias_of_a_query_model, "query parameter owner"),
    (by_path_alias_of_a_query_model, "query parameter owner"),
    (by_generated_alias, "query parameter organization_id"),
    (by_named_type, "query parameter organization_id"),
    (by_header_model, "header parameter organization_id"),
    (by_cookie_model, "cookie parameter organization_id"),
    (by_form_model, "body parameter organization_id"),
    (by_dependency, "query parameter organization_id"),
    (by_dependency_of_a_dependency, "query parameter organization_id"),
]


async def by_path(organization_id: Annotated[str, Path()]) -> None: ...
async def by_path_alias(org: Annotated[str, Path(alias="organization_id")]) -> None: ...
async def by_path_model(found: Annotated[Filter, Path()]) -> None: ...
async def by_nothing(page: int = 1) -> None: ...
async def by_json(created: Filter) -> None: ...
async def by_json_of_several(created: Filter, note: Annotated[str, Body()]) -> None: ...


CHECKED: list[Callable[..., Any]] = [by_path, by_path_alias, by_path_model, by_nothing, by_json, by_json_of_several]


def mount_at_path(app: FastAPI, logto: LogtoAuth, handler: Callable[..., Any]) -> None:
    """Mount an application whose own route requires the organization in the path of the mount."""
    inner = FastAPI()
    inner.post("/members", dependencies=[Depends(logto.require_organization())])(handler)
    app.mount("/organizations/{organization_id}", inner)


def mount_twice(app: FastAPI, logto: LogtoAuth, handler: Callable[..., Any]) -> None:
    inner, between = FastAPI(dependencies=[Depends(logto.require_organization())]), Starlette()
    inner.post("/members")(handler)
    between.mount("/v1", GZipMiddleware(inner))
    app.mount("/organizations/{organization_id}", between)


def mount_behind_the_requirement(app: FastAPI, logto: LogtoAuth, handler: Callable[..., Any]) -> None:
    inner = FastAPI()
    inner.post("/members")(handler)
    mount_protected(app, path="/organizations/{organization_id}", mounted=inner, requires=logto.require_organization())


def mount_deep_behind_the_requirement(app: FastAPI, logto: LogtoAuth, handler: Callable[..., Any]) -> None:
    inner, between = FastAPI(), FastAPI()
    inner.post("/members")(handler)
    mount_protected(between, path="/members", mounted=GZipMiddleware(inner), requires=logto.require_organization())
    mount_protected(
        app, path="/organizations/{organization_id}", mounted=between, requires=logto.require_organization()
    )


MOUNTS = [mount_at_path, mount_twice, mount_behind_the_requirement, mount_deep_behind_the_requirement]


def name_of(one: Any) -> str | None:
    return one.__name__ if callable(one) else None


@pytest.mark.parametrize("mount", MOUNTS, ids=name_of)
@pytest.mark.parametrize(("handler", "found"), UNCHECKED, ids=name_of)
def test_a_parameter_named_like_the_checked_one_is_refused_below_a_mount(
    logto: LogtoAuth, mount: Callable[..., None], handler: Callable[..., Any], found: str
) -> None:
    app = FastAPI()
    mount(app, logto, handler)
    logto.install(app)

    with pytest.raises(SettingsError) as caught, TestClient(app):
        pass

    path, _, problem = str(caught.value).partition(": ")
    assert path.startswith("/organizations/{organization_id}/")
    assert problem == (
        f"expected the organization from the path, where it is checked, found the {found}; declare it with "
        "Path(), rename it, or remove it and use claims.organization_id"
    )


@pytest.mark.parametrize("mount", MOUNTS, ids=name_of)
@pytest.mark.parametrize("handler", CHECKED, ids=name_of)
def test_a_parameter_in_the_path_or_inside_a_json_body_is_accepted(
    logto: LogtoAuth, mount: Callable[..., None], handler: Callable[..., Any]
) -> None:
    app = FastAPI()
    mount(app, logto, handler)

    check_routes(app)


def test_the_path_of_a_mount_can_be_read_and_is_the_one_that_is_checked(issuer: LocalIssuer, logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()

    @inner.get("/members", dependencies=[Depends(logto.require_organization())])
    async def read(organization_id: Annotated[str, Path()]) -> str:
        return organization_id

    app.mount("/organizations/{organization_id}", inner)
    check_routes(app)
    token = bearer(issuer.organization_token("acme"))

    answer = TestClient(app).get("/organizations/acme/members?organization_id=globex", headers=token)
    assert (answer.status_code, answer.json()) == (200, "acme")


async def by_camel_path(organizationId: Annotated[str, Path()]) -> None: ...  # noqa: N803 - as some APIs write it


def test_a_name_in_the_path_is_compared_with_its_capital_letters(logto: LogtoAuth) -> None:
    app = FastAPI()
    requirement = logto.require_organization(organization=OrganizationSource.from_path("organizationId"))
    app.get("/of/{organizationId}/members", dependencies=[Depends(requirement)])(by_camel_path)

    check_routes(app)


def test_an_organization_may_be_checked_in_two_places(logto: LogtoAuth) -> None:
    app = FastAPI()
    places = (OrganizationSource.from_path(), OrganizationSource.from_header("Organization-Id"))
    requirements = [Depends(logto.require_organization(organization=place)) for place in places]
    app.get("/of/{organization_id}/members", dependencies=requirements)(by_path)
    app.get("/in/{organization_id}/members", dependencies=requirements)(by_header_alias)

    check_routes(app)


def test_a_query_in_the_place_of_a_path_parameter_of_the_same_route_is_refused(logto: LogtoAuth) -> None:
    app, router = FastAPI(), APIRouter(dependencies=[Depends(logto.require_organization())])
    router.get("/{organization_id}/alias")(by_query_alias)
    router.get("/{organization_id}/of/{other}")(by_path_of_another_name)

    @router.websocket("/{organization_id}/watch")
    async def watch(websocket: WebSocket, page: Annotated[AliasedFilter, Query()]) -> None: ...

    app.include_router(router, prefix="/in")

    with pytest.raises(SettingsError) as caught:
        check_routes(app)
    assert [line.partition(";")[0].partition(" expected")[0::2] for line in str(caught.value).splitlines()] == [
        (
            f"/in/{{organization_id}}/{path}:",
            f" the organization from the path, where it is checked, found the {one}",
        )
        for path, one in (
            ("alias", "query parameter org"),
            ("of/{other}", "path parameter organization_id"),
            ("watch", "query parameter owner"),
        )
    ]


async def by_path_of_another_name(organization_id: Annotated[str, Path(alias="other")]) -> None: ...


@pytest.mark.parametrize("requires", ["organization", "user"])
def test_a_second_path_parameter_of_the_same_name_below_the_mount_is_refused(logto: LogtoAuth, requires: str) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.get("/of/{organization_id}/members")(by_path)
    requirement = logto.require_organization() if requires == "organization" else logto.require_user()
    mount_protected(app, path="/organizations/{organization_id}", mounted=inner, requires=requirement)

    if requires == "user":
        check_routes(app)  # Neither of them is checked.
        return
    with pytest.raises(SettingsError) as caught:
        check_routes(app)
    assert str(caught.value) == (
        "/organizations/{organization_id}/of/{organization_id}/members: expected one parameter {organization_id}, "
        "checked at the mount /organizations/{organization_id}, found another one below it; rename it"
    )


def test_a_path_parameter_below_the_mount_may_have_the_name_of_the_header_that_is_checked(logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.get("/of/{organization}/members")(by_nothing)
    requirement = logto.require_organization(organization=OrganizationSource.from_header("organization"))
    mount_protected(app, path="/inner", mounted=inner, requires=requirement)

    check_routes(app)


def test_an_application_that_can_not_be_inspected_is_still_mounted(logto: LogtoAuth) -> None:
    app = FastAPI()
    files = StaticFiles(directory=HERE)
    mount_protected(app, path="/of/{organization_id}", mounted=files, requires=logto.require_organization())

    check_routes(app)


class Headers(BaseModel):
    x_organization: str


class AliasedHeaders(BaseModel):
    org: str = Field(alias="X-Organization")


async def by_its_header(x_organization: Annotated[str, Header()]) -> None: ...
async def by_alias_of_its_header(org: Annotated[str, Header(alias="X-Organization")]) -> None: ...
async def by_model_of_its_header(found: Annotated[Headers, Header()]) -> None: ...
async def by_alias_in_a_model_of_its_header(found: Annotated[AliasedHeaders, Header()]) -> None: ...
async def by_validation_alias_of_its_header(
    org: Annotated[str, Header(validation_alias="x-organization")],
) -> None: ...
async def by_header_without_its_hyphen(x_organization: Annotated[str, Header(convert_underscores=False)]) -> None: ...
async def by_model_without_its_hyphen(found: Annotated[Headers, Header(convert_underscores=False)]) -> None: ...
async def by_query_named_like_the_header(x_organization: str) -> None: ...
async def by_cookie_named_like_the_header(organization: Annotated[str, Cookie(alias="X-Organization")]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        (by_its_header, None),
        (by_alias_of_its_header, None),
        (by_model_of_its_header, None),
        (by_alias_in_a_model_of_its_header, None),
        (by_validation_alias_of_its_header, None),
        (by_header_without_its_hyphen, "header parameter x_organization"),
        (by_model_without_its_hyphen, "header parameter x_organization"),
        (by_query_named_like_the_header, "query parameter x_organization"),
        (by_cookie_named_like_the_header, "cookie parameter organization"),
    ],
    ids=name_of,
)
def test_an_organization_in_a_header_is_read_from_that_header_alone(
    logto: LogtoAuth, handler: Callable[..., Any], found: str | None
) -> None:
    app = FastAPI()
    requirement = logto.require_organization(organization=OrganizationSource.from_header("X-Organization"))
    app.get("/members", dependencies=[Depends(requirement)])(handler)

    if found is None:
        check_routes(app)
        return
    with pytest.raises(SettingsError) as caught:
        check_routes(app)
    assert str(caught.value) == (
        f"/members: expected the organization from the header, where it is checked, found the {found}; declare "
        "it with Header(alias='x-organization'), rename it, or remove it and use claims.organization_id"
    )


async def by_query_without_a_letter(_: int = 0) -> None: ...


@pytest.mark.parametrize("handler", [by_query, by_query_without_a_letter], ids=name_of)
@pytest.mark.parametrize(
    "organization", [OrganizationSource.from_token(), OrganizationSource.from_dependency(by_query)]
)
def test_a_parameter_is_compared_with_nothing_if_the_request_names_no_organization_itself(
    logto: LogtoAuth, organization: OrganizationSource, handler: Callable[..., Any]
) -> None:
    app = FastAPI()
    app.get("/members", dependencies=[Depends(logto.require_organization(organization=organization))])(handler)

    check_routes(app)


SECOND = "https://second.logto.app"


def second_auth(**arguments: Any) -> LogtoAuth:
    return LogtoAuth(endpoint=SECOND, audience=API, **arguments)


def add_second(app: FastAPI, _: LogtoAuth) -> None:
    app.get("/second", dependencies=[Depends(second_auth())])(by_nothing)


def add_second_optional(app: FastAPI, _: LogtoAuth) -> None:
    app.get("/second", dependencies=[Depends(second_auth().optional)], include_in_schema=False)(by_nothing)


def add_second_organization(app: FastAPI, _: LogtoAuth) -> None:
    app.get("/of/{organization_id}", dependencies=[Depends(second_auth().require_organization())])(by_nothing)


def add_second_resource(app: FastAPI, logto: LogtoAuth) -> None:
    first, second = (one.for_audience("https://a", scheme_name="Billing") for one in (logto, second_auth()))
    app.get("/first/resource", dependencies=[Depends(first)])(by_nothing)
    app.get("/second/resource", dependencies=[Depends(second)])(by_nothing)


def add_scheme_of_fastapi(app: FastAPI, _: LogtoAuth) -> None:
    other = OAuth2AuthorizationCodeBearer(
        "https://other.example/auth", "https://other.example/token", scheme_name="Logto"
    )
    app.get("/second", dependencies=[Depends(other)])(by_nothing)


@pytest.mark.parametrize("lifespan", [True, False], ids=["at start", "by the document"])
@pytest.mark.parametrize(
    ("add", "name", "other"),
    [
        (add_second, "Logto", "another LogtoAuth"),
        (add_second_optional, "Logto", "another LogtoAuth"),
        (add_second_organization, "Logto", "another LogtoAuth"),
        (add_second_resource, "Billing", "another LogtoAuth"),
        (add_scheme_of_fastapi, "Logto", "a OAuth2AuthorizationCodeBearer"),
    ],
    ids=name_of,
)
def test_one_name_for_two_schemes_of_one_application_is_refused(
    logto: LogtoAuth, add: Callable[[FastAPI, LogtoAuth], None], name: str, other: str, *, lifespan: bool
) -> None:
    app = FastAPI()
    logto.install(app, lifespan=lifespan)
    app.get("/first", dependencies=[Depends(logto)])(by_nothing)
    add(app, logto)

    with pytest.raises(SettingsError) as caught, TestClient(app) as client:
        client.get("/openapi.json")
    assert str(caught.value) == (
        f"scheme_name: expected a unique name for each security scheme of an application, found {name!r} for a "
        f"LogtoAuth and for {other}; the docs page would sign users in at the wrong place, so pass "
        "LogtoAuth(scheme_name=...)"
    )


def test_each_name_for_two_schemes_is_a_line_of_the_error(logto: LogtoAuth) -> None:
    app = FastAPI()
    logto.install(app, lifespan=False)
    app.get("/first", dependencies=[Depends(logto)])(by_nothing)
    for add in (add_second, add_second_optional, add_second_resource):
        add(app, logto)

    with pytest.raises(SettingsError) as caught:
        app.openapi()
    expected = "scheme_name: expected a unique name for each security scheme of an application, found "
    assert [line.partition(" for a LogtoAuth")[0] for line in str(caught.value).splitlines()] == [
        f"{expected}'Logto'",
        f"{expected}'Billing'",
    ]


def test_the_document_of_an_application_is_not_refused_for_a_mounted_one(logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    logto.install(app, lifespan=False)
    logto.install(inner, lifespan=False)
    app.get("/first", dependencies=[Depends(logto)])(by_nothing)
    inner.get("/first", dependencies=[Depends(logto)])(by_nothing)
    add_second(inner, logto)
    app.mount("/v1", inner)

    assert list(app.openapi()["paths"]) == ["/first"]
    with pytest.raises(SettingsError, match="scheme_name: expected a unique name"):
        inner.openapi()


def test_the_document_is_refused_each_time(logto: LogtoAuth) -> None:
    app = FastAPI()
    logto.install(app, lifespan=False)
    app.get("/first", dependencies=[Depends(logto)])(by_nothing)
    add_second(app, logto)
    client = TestClient(app, raise_server_exceptions=False)

    assert [client.get("/openapi.json").status_code for _ in range(2)] == [500, 500]


def test_two_schemes_with_a_name_each_are_documented_with_a_tenant_each(issuer: LocalIssuer, logto: LogtoAuth) -> None:
    app = FastAPI()
    second = second_auth(scheme_name="Second")
    for auth in (logto, second):
        auth.install(app)
        app.get(f"/{auth.scheme_name}", dependencies=[Depends(auth)])(by_nothing)
    app.get("/other", dependencies=[Depends(HTTPBasic()), Depends(HTTPBasic())])(by_nothing)
    check_routes(app)

    schemes = app.openapi()["components"]["securitySchemes"]
    assert {
        name: scheme["flows"]["authorizationCode"]["authorizationUrl"]
        for name, scheme in schemes.items()
        if "flows" in scheme
    } == {
        "Logto": f"{issuer.issuer}/auth?resource=https%3A%2F%2Fapi.example.test",
        "Second": f"{SECOND}/oidc/auth?resource=https%3A%2F%2Fapi.example.test",
    }


def test_mounted_applications_have_documents_of_their_own(issuer: LocalIssuer, logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    second = second_auth(swagger_client_id="spa")
    inner.get("/first", dependencies=[Depends(second.require_scopes("inner"))])(by_nothing)
    app.get("/v1/first", dependencies=[Depends(logto.require_scopes("outer"))])(by_nothing)
    app.mount("/v1", inner)
    second.install(inner, lifespan=False)
    logto.install(app)
    check_routes(app)

    for document, url, scope in (
        (app.openapi(), issuer.issuer, "outer"),
        (inner.openapi(), f"{SECOND}/oidc", "inner"),
    ):
        (operation,) = (operations["get"] for operations in document["paths"].values())
        assert operation["security"] == [{"Logto": [scope]}]
        flow = document["components"]["securitySchemes"]["Logto"]["flows"]["authorizationCode"]
        assert flow["authorizationUrl"].startswith(f"{url}/auth?")
        assert list(flow["scopes"]) == [scope, "profile"]
    assert "create a single-page application" in app.openapi()["components"]["securitySchemes"]["Logto"]["description"]


def test_a_clash_in_an_application_behind_mount_protected_is_refused(logto: LogtoAuth) -> None:
    inner, app = FastAPI(), FastAPI()
    inner.get("/first", dependencies=[Depends(logto)])(by_nothing)
    add_second(inner, logto)
    mount_protected(app, path="/inner", mounted=inner, requires=logto)

    with pytest.raises(SettingsError, match="scheme_name: expected a unique name for each security scheme"):
        check_routes(app)


def test_an_issuer_that_the_environment_does_not_name_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGTO_ENDPOINT", "https://tenant.example.com")
    monkeypatch.setenv("LOGTO_AUDIENCE", "https://api.example.com")
    auth = LogtoAuth()
    app = FastAPI()
    auth.install(app)
    where = OrganizationSource.from_token(issuer="https://tenant.example.com")
    app.get("/reports", dependencies=[Depends(auth.require_organization(organization=where))])(lambda: None)

    expected = r"/reports: organization: expected an issuer of the settings or 'any', found issuer='https://tenant"
    with pytest.raises(SettingsError, match=expected), TestClient(app):
        pass
