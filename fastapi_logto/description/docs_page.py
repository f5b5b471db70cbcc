"""Sign-in on FastAPI's docs page: the options of Swagger UI, and the text in its dialog."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from fastapi_logto.description.routes import NO_SCOPE
from fastapi_logto.settings import LogtoSettings

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys

SIGN_IN_ONLY: Final = "Sign-in only, no API permission"
"""The description of the scope that every user has."""


def build_dialog_text(settings: LogtoSettings, *, redirect_path: str | None) -> str:
    """Return the text that explains the sign-in dialog of the docs page; empty if nobody signs in there.

    `redirect_path` is the redirect path of FastAPI's own docs page, below the URL of the API; `None` if it serves none.
    An application with a `swagger_client_id` may still define a page itself.
    """
    setup = ""
    if settings.swagger_client_id is None:
        if redirect_path is None:
            return ""
        setup = (
            "To sign in here, create a single-page application in Logto, register "
            f"`{settings.public_url or '<URL of this API>'}{redirect_path}` as its redirect URI, and set "
            "`LOGTO_SWAGGER_CLIENT_ID` to its client id. "
        )
    # Paragraphs, because Swagger UI shows lists in a larger font.
    return (
        f"{setup}Leave `client_secret` empty.\n\n"
        f"*Access denied*: the user has none of the selected scopes. Select `{NO_SCOPE}` too.\n\n"
        "*Token expired*, or other scopes needed: press *Logout* and *Close*, then authorize again. Without *Close* in "
        "between, Logto may return `invalid_grant`.\n\n"
        f"*Another user*: press *Logout* and *Close*, [sign out of Logto]({settings.issuer}/session/end), then "
        "authorize again."
    )


class SwaggerOptions(dict[str, Any]):
    """The OAuth options of Swagger UI: PKCE, the client that signs in, and the scopes that are selected at first.

    Client and scopes are looked up when the page is built: settings and routes may be known long after the
    application.
    """

    def __init__(self, options: Mapping[str, Any], *, find_scopes: Callable[[], Sequence[str]]) -> None:
        """Store the options of the application, which take precedence."""
        super().__init__({"usePkceWithAuthorizationCodeGrant": True, **options})
        self._find_scopes = find_scopes
        self._find_client_ids: list[Callable[[], str | None]] = []

    def add_client(self, find_client_id: Callable[[], str | None]) -> None:
        """Add a single-page application. The first one with an id is used; without any, the user types it in."""
        self._find_client_ids.append(find_client_id)

    def _complete(self) -> None:
        client_ids = (find() for find in self._find_client_ids)
        if "clientId" not in self and (client_id := next(filter(None, client_ids), None)) is not None:
            self["clientId"] = client_id
        if "scopes" not in self and (scopes := self._find_scopes()):
            self["scopes"] = scopes

    @override
    def __iter__(self) -> Iterator[str]:
        self._complete()
        return super().__iter__()

    @override
    def keys(self) -> "dict_keys[str, Any]":
        self._complete()
        return super().keys()

    @override
    def items(self) -> "dict_items[str, Any]":
        self._complete()
        return super().items()
