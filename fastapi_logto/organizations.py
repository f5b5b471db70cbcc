"""Where a request names its organization."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from fastapi.requests import HTTPConnection

from fastapi_logto.errors import OrganizationMismatchError, OrganizationRequiredError, SettingsError
from fastapi_logto.redaction import quote


@dataclass(frozen=True, slots=True, init=False)
class OrganizationSource:
    """Where a request names its organization. Create it with one of the class methods.

    An organization id is unique within its tenant only. If the API accepts several tenants, `issuer` selects the tenant
    of the organizations; without it, creating a requirement raises an error.

    Attributes:
        kind: The place: the path, a header, a dependency of the application, or only the token.
        name: The name of the path parameter or header; empty for other places.
        dependency: The dependency that returns the organization id; `None` for other places.
        issuer: An issuer of the tenant whose organizations are meant. `"any"`: the organization belongs to the tenant
            that issued the token, and the handler must look up data by `claims.iss` **and** the organization id.
    """

    kind: Literal["path", "header", "dependency", "token"]
    name: str
    dependency: Callable[..., Any] | None
    issuer: str | None

    def __init__(self) -> None:
        """Raise `TypeError`: use one of the class methods."""
        raise TypeError(
            "expected OrganizationSource.from_path(...), from_header(...), from_dependency(...) or from_token(...), "
            "found a call of the class itself; call one of them"
        )

    @classmethod
    def _build(
        cls,
        kind: Literal["path", "header", "dependency", "token"],
        *,
        issuer: str | None,
        name: str = "",
        dependency: Callable[..., Any] | None = None,
    ) -> Self:
        made = object.__new__(cls)
        values = {"kind": kind, "name": name, "dependency": dependency, "issuer": issuer and str.__str__(issuer)}
        for attribute, value in values.items():
            object.__setattr__(made, attribute, value)
        return made

    @classmethod
    def from_path(cls, name: str = "organization_id", *, issuer: str | None = None) -> Self:
        """Read the organization from a path parameter: `/organizations/{organization_id}/members`.

        Args:
            name: The name of the parameter.
            issuer: The tenant of the organization; see the class.

        Raises:
            ValueError: The name is empty or not ASCII, or has spaces around it.
        """
        return cls._build("path", name=_check_name(name), issuer=issuer)

    @classmethod
    def from_header(cls, name: str, *, issuer: str | None = None) -> Self:
        """Read the organization from a header.

        Args:
            name: The name of the header, case-insensitive.
            issuer: The tenant of the organization; see the class.

        Raises:
            ValueError: As in `from_path`.
        """
        return cls._build("header", name=_check_name(name).lower(), issuer=issuer)

    @classmethod
    def from_dependency(cls, dependency: Callable[..., Any], *, issuer: str | None = None) -> Self:
        """Get the organization from a dependency of the application, e.g. the organization that owns a project.

        FastAPI calls it after the token is verified. It may have its own parameters and dependencies.

        Args:
            dependency: A function or coroutine function that returns the organization id. If it returns `None`, every
                caller is rejected.
            issuer: The tenant of the organization; see the class.
        """
        return cls._build("dependency", dependency=dependency, issuer=issuer)

    @classmethod
    def from_token(cls, *, issuer: str | None = None) -> Self:
        """Accept tokens for any organization; the request names none.

        The handler must then read and write only data of `claims.organization_id`.

        Args:
            issuer: The tenant whose organizations are accepted; see the class.
        """
        return cls._build("token", issuer=issuer)


def find_organization(source: OrganizationSource, conn: HTTPConnection) -> str:
    """Return the organization id in the path or header of a request.

    `SettingsError` if the route has no such path parameter; a refusal if the header is missing, empty or repeated.
    """
    if source.kind == "path":
        if source.name not in conn.path_params:
            raise SettingsError(describe_absence(source))
        return str(conn.path_params[source.name])
    values = conn.headers.getlist(source.name)
    if len(values) > 1:
        # Two layers could each use a different one, and disagree about whose data is requested.
        raise OrganizationMismatchError(expected="one header", found=f"{len(values)} headers {quote(source.name)}")
    if not values or not values[0]:
        raise OrganizationRequiredError(
            f"The request names no organization; send its id in the header {source.name}", found="no header"
        )
    return values[0]


def describe_absence(source: OrganizationSource) -> str:
    """Return the error text for a route whose path lacks the parameter."""
    return (
        f"expected the path parameter {{{source.name}}} that names the organization, found none in this route; "
        "add it, or pass organization=OrganizationSource.from_path(...), from_header(...) or from_dependency(...)"
    )


def check_source(source: object) -> OrganizationSource:
    """Return the source; `TypeError` if it is something else, such as the id of an organization."""
    if not isinstance(source, OrganizationSource):
        raise TypeError(
            f"organization: expected an OrganizationSource, such as OrganizationSource.from_path(), found "
            f"{source!r}; to require one certain organization, pass claims=lambda claims: claims.organization_id == ..."
        )
    return source


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not name or not name.isascii() or name.strip() != name:
        raise ValueError(f"expected the name of a path parameter or header, found {name!r}")
    return str.__str__(name)
