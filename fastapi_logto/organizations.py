"""Where a request names the organization that it is about."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from fastapi.requests import HTTPConnection

from fastapi_logto.errors import OrganizationMismatchError, OrganizationRequiredError, SettingsError, quote

__all__ = ["Organization"]


@dataclass(frozen=True, slots=True)
class Organization:
    """Where a request names the organization that it is about. Made by one of the class methods.

    An organization's id is unique in its tenant only. If the API accepts several tenants, `issuer` says whose
    organizations are meant; a requirement without it raises an error when it is made.

    Attributes:
        source: Where: in the path, in a header, returned by a dependency of the application, or only in the token.
        name: The path parameter's or header's name; empty for other sources.
        dependency: The application's function, for that source.
        issuer: An issuer of the tenant whose organizations are meant. `"any"`: the organization belongs to the tenant
            that issued the token, and the handler looks data up by `claims.iss` **and** the organization's id.
    """

    source: Literal["path", "header", "dependency", "token"]
    name: str = ""
    dependency: Callable[..., Any] | None = None
    issuer: str | None = None

    @classmethod
    def from_path(cls, name: str = "organization_id", *, issuer: str | None = None) -> Self:
        """The request names it in a path parameter: `/organizations/{organization_id}/members`.

        Args:
            name: The parameter's name.
            issuer: Whose organization it is; see the class.
        """
        return cls("path", _check_name(name), issuer=issuer)

    @classmethod
    def from_header(cls, name: str, *, issuer: str | None = None) -> Self:
        """The request names it in a header.

        Args:
            name: The header's name, in any case.
            issuer: Whose organization it is; see the class.
        """
        return cls("header", _check_name(name).lower(), issuer=issuer)

    @classmethod
    def from_dependency(cls, dependency: Callable[..., Any], *, issuer: str | None = None) -> Self:
        """A dependency of the application finds it: the organization that a project belongs to, say.

        FastAPI calls it once the token is known to be good, with parameters and dependencies of its own.

        Args:
            dependency: A function or coroutine function that returns the organization's id, or `None` if
                there is none, which refuses every caller alike.
            issuer: Whose organization it is; see the class.
        """
        return cls("dependency", dependency=dependency, issuer=issuer)

    @classmethod
    def from_token(cls, *, issuer: str | None = None) -> Self:
        """The request names none: any organization's token is admitted.

        The handler then reads and writes what belongs to `claims.organization_id`, and to no other one.

        Args:
            issuer: Whose organizations are admitted; see the class.
        """
        return cls("token", issuer=issuer)

    def find(self, conn: HTTPConnection) -> str:
        """Give the organization that a request names in its path or header.

        Args:
            conn: The request.

        Returns:
            Its id.

        Raises:
            OrganizationRequiredError: The header is missing or empty.
            OrganizationMismatchError: There are several of the header.
            SettingsError: The route has no such path parameter.
        """
        if self.source == "path":
            if self.name not in conn.path_params:
                raise SettingsError(f"the route {self.describe_absence()}")
            return str(conn.path_params[self.name])
        values = conn.headers.getlist(self.name)
        if len(values) > 1:
            # Two layers that each take another one would disagree about whose data is asked for.
            raise OrganizationMismatchError(expected="one header", found=f"{len(values)} headers {quote(self.name)}")
        if not values or not values[0]:
            raise OrganizationRequiredError(f"Name the organization in the header {self.name}", found="no header")
        return values[0]

    def describe_absence(self) -> str:
        """Give what is wrong with a route whose path lacks the parameter, and what to do."""
        return (
            f"asks for the organization in its path, but has no parameter {{{self.name}}}; "
            "say where else: organization=Organization.from_path(...), from_header(...), from_dependency(...)"
        )

    def describe(self) -> str:
        """Give the words for the documentation of a route."""
        if self.source == "path":
            return f"the organization in the path, `{{{self.name}}}`"
        if self.source == "header":
            return f"the organization in the header `{self.name}`"
        return "the organization that the request is about" if self.source == "dependency" else "any organization"


def _check_name(name: str) -> str:
    if not name or not name.isascii() or name.strip() != name:
        raise ValueError(f"expected the name of a path parameter or header, found {name!r}")
    return name
