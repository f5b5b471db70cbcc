"""Where a request names its organization."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from fastapi.requests import HTTPConnection

from fastapi_logto.errors import OrganizationMismatchError, OrganizationRequiredError, SettingsError, quote

__all__ = ["Organization"]


@dataclass(frozen=True, slots=True)
class Organization:
    """Where a request names its organization. Create it with one of the class methods.

    An organization id is unique within its tenant only. If the API accepts several tenants, `issuer` selects the tenant
    of the organizations; a requirement without it raises an error when it is created.

    Attributes:
        source: The place: path, header, a dependency of the application, or only the token.
        name: The name of the path parameter or header; empty for other sources.
        dependency: The function of the application, for that source.
        issuer: An issuer of the tenant whose organizations are meant. `"any"`: the organization belongs to the tenant
            that issued the token, and the handler must look up data by `claims.iss` **and** the organization id.
    """

    source: Literal["path", "header", "dependency", "token"]
    name: str = ""
    dependency: Callable[..., Any] | None = None
    issuer: str | None = None

    @classmethod
    def from_path(cls, name: str = "organization_id", *, issuer: str | None = None) -> Self:
        """Read the organization from a path parameter: `/organizations/{organization_id}/members`.

        Args:
            name: The name of the parameter.
            issuer: The tenant of the organization; see the class.
        """
        return cls("path", _check_name(name), issuer=issuer)

    @classmethod
    def from_header(cls, name: str, *, issuer: str | None = None) -> Self:
        """Read the organization from a header.

        Args:
            name: The name of the header, case-insensitive.
            issuer: The tenant of the organization; see the class.
        """
        return cls("header", _check_name(name).lower(), issuer=issuer)

    @classmethod
    def from_dependency(cls, dependency: Callable[..., Any], *, issuer: str | None = None) -> Self:
        """Get the organization from a dependency of the application, e.g. the organization that owns a project.

        FastAPI calls it after the token is verified. It may have its own parameters and dependencies.

        Args:
            dependency: A function or coroutine function that returns the organization id. If it returns `None`, every
                caller is rejected.
            issuer: The tenant of the organization; see the class.
        """
        return cls("dependency", dependency=dependency, issuer=issuer)

    @classmethod
    def from_token(cls, *, issuer: str | None = None) -> Self:
        """Accept tokens for any organization; the request names none.

        The handler must then read and write only data of `claims.organization_id`.

        Args:
            issuer: The tenant whose organizations are accepted; see the class.
        """
        return cls("token", issuer=issuer)

    def find(self, conn: HTTPConnection) -> str:
        """Return the organization id in the path or header of a request.

        Args:
            conn: The request.

        Returns:
            The organization id.

        Raises:
            OrganizationRequiredError: The header is missing or empty.
            OrganizationMismatchError: The header is repeated.
            SettingsError: The route has no such path parameter.
        """
        if self.source == "path":
            if self.name not in conn.path_params:
                raise SettingsError(self.describe_absence())
            return str(conn.path_params[self.name])
        values = conn.headers.getlist(self.name)
        if len(values) > 1:
            # Two layers could each use a different one, and disagree about whose data is requested.
            raise OrganizationMismatchError(expected="one header", found=f"{len(values)} headers {quote(self.name)}")
        if not values or not values[0]:
            raise OrganizationRequiredError(
                f"The request names no organization; send its id in the header {self.name}", found="no header"
            )
        return values[0]

    def describe_absence(self) -> str:
        """Return the error text for a route whose path lacks the parameter."""
        return (
            f"expected the path parameter {{{self.name}}} that names the organization, found none in this route; "
            "add it, or pass organization=Organization.from_path(...), from_header(...) or from_dependency(...)"
        )

    def describe(self) -> str:
        """Return a description for the documentation of a route."""
        if self.source == "path":
            return f"the organization in the path, `{{{self.name}}}`"
        if self.source == "header":
            return f"the organization in the header `{self.name}`"
        return "the organization of the requested data" if self.source == "dependency" else "any organization"


def _check_name(name: str) -> str:
    if not name or not name.isascii() or name.strip() != name:
        raise ValueError(f"expected the name of a path parameter or header, found {name!r}")
    return name
