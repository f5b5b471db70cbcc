"""Reject, at startup, routes that would not protect what they seem to protect."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, ForwardRef, Literal, TypeAlias, get_args, get_origin

from fastapi import FastAPI, params
from fastapi.dependencies.models import Dependant
from fastapi.security.base import SecurityBase
from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from fastapi_logto.description.routes import MOUNTED_PATH, RouteInfo, find_dependants, find_receiver, iter_routes
from fastapi_logto.errors import SettingsError
from fastapi_logto.organizations import OrganizationSource, describe_absence
from fastapi_logto.schemes import OptionalScheme, OrganizationScheme, TokenScheme, find_state
from fastapi_logto.state import AuthState
from fastapi_logto.verification.claims import TokenClaims

_Kind: TypeAlias = Literal["path", "query", "header", "cookie", "body"]

_NO_SEPARATORS: Final = str.maketrans("", "", "-_")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameter:
    """A value that FastAPI reads from the request for a handler or one of its dependencies.

    Attributes:
        kind: Where the value comes from.
        name: The name of the parameter, or of the field of a model, in Python.
        aliases: The names that FastAPI looks for in the request.
    """

    kind: _Kind
    name: str
    aliases: frozenset[str]

    def is_named_like(self, place: OrganizationSource) -> bool:
        """Return whether a reader would expect the value to be the organization that is checked."""
        return _simplify(place.name) in {_simplify(name) for name in (self.name, *self.aliases)}

    def is_read_from(self, place: OrganizationSource) -> bool:
        """Return whether the value comes from exactly the place where the organization is checked."""
        names = {name.lower() for name in self.aliases} if self.kind == "header" else self.aliases
        return self.kind == place.kind and names == {place.name}


def check_routes(app: FastAPI) -> None:
    """Reject routes that would not protect what they seem to protect, before the first request.

    Mounted applications are checked too, also below `mount_protected`. Not checked: what a handler reads from the
    request object itself, without a parameter, and the fields of a JSON body.
    """
    problems = list(_iter_problems(app))
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))


def check_scheme_names(app: FastAPI) -> None:
    """Reject an application if two of its security schemes have the same name.

    Mounted applications are not checked here: each has its own OpenAPI document.
    """
    problems = list(_iter_name_problems([route for route in iter_routes(app) if route.owner is app]))
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))


def _iter_problems(app: object, *, prefix: str = "", above: Sequence[RouteInfo] = ()) -> Iterator[str]:
    routes = list(iter_routes(app, prefix=prefix))
    yield from _iter_name_problems(routes)
    for route in routes:
        yield from _iter_claims_problems(route)
        yield from _iter_issuer_problems(route)
        yield from _iter_scheme_problems(route)
        yield from _iter_place_problems(route)
        yield from _iter_parameter_problems(route, above=above)
        yield from _iter_path_problems(route, above=above, prefix=prefix)
        yield from _iter_receiver_problems(route, above=above)
        if route.mounted is not None:
            mount = route.path.removesuffix(f"/{{{MOUNTED_PATH}}}")
            yield from _iter_problems(route.mounted, prefix=mount, above=[*above, route])


def _iter_claims_problems(route: RouteInfo) -> Iterator[str]:
    for dependant in find_dependants(route):
        for _, field in _iter_fields(dependant):
            problem = _find_claims_problem(field.field_info.annotation)
            if problem is not None:
                yield f"{route.path}: expected parameter {field.name} to come from a dependency, found {problem}"


def _find_claims_problem(annotation: object) -> str | None:
    """Return why FastAPI reads a parameter from the request although it seems to be a dependency.

    The parameter need not be `TokenClaims`: a dependency may return the user's id, which callers could then choose.
    """
    parts = _list_parts(annotation)
    if any(isinstance(part, params.Depends) for part in parts):
        return (
            "Depends(...) in a place that FastAPI ignores, so it would read the parameter from the request; write "
            "Annotated[..., Depends(...)] around the whole type, and define its alias without the keyword `type`, "
            "which only FastAPI 0.129 and later understand"
        )
    for part in parts:
        if isinstance(part, ForwardRef):
            # FastAPI ignores it: any value for the parameter is an error 500, and its default replaces the claims.
            return (
                f"the annotation {part.__forward_arg__!r}, which FastAPI can't evaluate, so it would read the "
                "parameter from the request; remove `from __future__ import annotations` or the quotes, or define the "
                "names in the module, before the route"
            )
    if any(isinstance(part, type) and issubclass(part, TokenClaims) for part in parts):
        return (
            "no dependency, so FastAPI would read it from the request; declare it with Depends(auth) or "
            "Depends(auth.require_scopes(...))"
        )
    return None


def _iter_issuer_problems(route: RouteInfo) -> Iterator[str]:
    for requirement in route.requirements:
        if requirement.organization is not None:
            # Again, because settings of the environment were not known when the requirement was made.
            try:
                find_state(requirement.scheme).check_organization_issuer(requirement.organization.issuer)
            except SettingsError as error:
                yield f"{route.path}: {error}"


def _iter_scheme_problems(route: RouteInfo) -> Iterator[str]:
    if len({isinstance(scheme, OrganizationScheme) for scheme in route.schemes}) > 1:
        yield (
            f"{route.path}: it requires an organization, but another dependency of the route or its router rejects "
            "organization tokens; require the organization in each of them"
        )


def _iter_place_problems(route: RouteInfo) -> Iterator[str]:
    for place in _iter_places([route]):
        if place.kind == "path" and f"{{{place.name}}}" not in route.path:
            yield f"{route.path}: {describe_absence(place)}"


def _iter_parameter_problems(route: RouteInfo, *, above: Sequence[RouteInfo]) -> Iterator[str]:
    """Find parameters that are named like the checked place but are read from elsewhere, where callers can choose them.

    Below a mount, FastAPI reads `organization_id: str` from the query. `/organizations/acme/members` would be checked,
    but the handler would read `?organization_id=globex`.
    """
    places = list(dict.fromkeys(_iter_places([*above, route])))
    parameters = [parameter for dependant in find_dependants(route) for parameter in _iter_parameters(dependant)]
    for parameter in parameters:
        if any(parameter.is_read_from(place) for place in places):
            continue
        for place in filter(parameter.is_named_like, places):
            declared = "Path()" if place.kind == "path" else f"Header(alias={place.name!r})"
            yield (
                f"{route.path}: expected the organization from the {place.kind}, where it is checked, found the "
                f"{parameter.kind} parameter {parameter.name}; declare it with {declared}, rename it, or remove it and "
                "use claims.organization_id"
            )


def _iter_path_problems(route: RouteInfo, *, above: Sequence[RouteInfo], prefix: str) -> Iterator[str]:
    for place in _iter_places(above):
        if place.kind == "path" and f"{{{place.name}}}" in route.path.removeprefix(prefix):
            # In Starlette, the inner parameter replaces the one that was checked at the mount.
            yield (
                f"{route.path}: expected one parameter {{{place.name}}}, checked at the mount {prefix}, found another "
                "one below it; rename it"
            )


def _iter_receiver_problems(route: RouteInfo, *, above: Sequence[RouteInfo]) -> Iterator[str]:
    receiver = find_receiver(route)
    if receiver is None:
        return
    if above:
        yield f"{route.path}: expected a webhook outside mount_protected, because Logto sends no token, found it inside"
    try:
        receiver.check()
    except SettingsError as error:
        yield f"{route.path}: {error}"


def _iter_name_problems(routes: Sequence[RouteInfo]) -> Iterator[str]:
    """Find names that two security schemes share in the OpenAPI document of one application."""
    ours: dict[tuple[int, str], AuthState[Any]] = {}
    for route in routes:
        for scheme in route.schemes:
            state = find_state(scheme)
            if ours.setdefault((id(route.owner), scheme.scheme_name), state) is not state:
                yield _describe_clash(scheme.scheme_name, "another LogtoAuth")
    for route in routes:
        calls: Iterator[Any] = (dependant.call for dependant in find_dependants(route))
        for call in calls:
            if not isinstance(call, SecurityBase) or isinstance(call, TokenScheme | OptionalScheme):
                continue
            if (id(route.owner), call.scheme_name) in ours:
                yield _describe_clash(call.scheme_name, f"a {type(call).__name__}")


def _describe_clash(name: str, other: str) -> str:
    return (
        f"scheme_name: expected a unique name for each security scheme of an application, found {name!r} for a "
        f"LogtoAuth and for {other}; the docs page would sign users in at the wrong place, so pass "
        "LogtoAuth(scheme_name=...)"
    )


def _iter_places(routes: Iterable[RouteInfo]) -> Iterator[OrganizationSource]:
    """Yield the path parameters and headers that name the organization to check."""
    for requirement in (requirement for route in routes for requirement in route.requirements):
        place: OrganizationSource | None = requirement.organization
        if place is not None and place.kind in {"path", "header"}:
            yield place


def _iter_fields(dependant: Dependant) -> Iterator[tuple[_Kind, Any]]:
    """Yield what FastAPI reads from the request for a handler or one dependency."""
    kinds: tuple[tuple[_Kind, list[Any]], ...] = (
        ("path", dependant.path_params),
        ("query", dependant.query_params),
        ("header", dependant.header_params),
        ("cookie", dependant.cookie_params),
        ("body", dependant.body_params),
    )
    for kind, fields in kinds:
        for field in fields:
            yield kind, field


def _iter_parameters(dependant: Dependant) -> Iterator[_Parameter]:
    for kind, field in _iter_fields(dependant):
        info: FieldInfo = field.field_info
        yield _build_parameter(kind, field.name, info, hyphens=False)
        hyphens = isinstance(info, params.Header) and info.convert_underscores
        if isinstance(info, params.Param | params.Form):
            # FastAPI reads each field of such a model as a separate query, header, cookie or form value.
            for model in _list_parts(info.annotation):
                if isinstance(model, type) and issubclass(model, BaseModel):
                    for name, inner in model.model_fields.items():
                        yield _build_parameter(kind, name, inner, hyphens=hyphens)


def _build_parameter(kind: _Kind, name: str, info: FieldInfo, *, hyphens: bool) -> _Parameter:
    aliases = [*_iter_aliases(info.validation_alias)] or [*_iter_aliases(info.alias)]
    return _Parameter(
        kind=kind,
        name=name,
        aliases=frozenset(aliases or [name.replace("_", "-") if hyphens else name]),
    )


def _iter_aliases(alias: str | AliasPath | AliasChoices | None) -> Iterator[str]:
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if choice is not None:
            yield choice if isinstance(choice, str) else str(choice.path[0])


def _list_parts(annotation: object) -> list[object]:
    """Return an annotation and all that is in it, also inside unions, generics, metadata and aliases."""
    seen: list[object] = []
    left = [annotation]
    while left:
        part = left.pop()
        if any(part is one for one in seen):
            continue  # an alias may refer to itself
        seen.append(part)
        # `__value__` is the type behind a type alias (PEP 695).
        left.extend([get_origin(part), getattr(part, "__value__", None), *get_args(part)])
    return seen


def _simplify(name: str) -> str:
    return name.translate(_NO_SEPARATORS).casefold()
