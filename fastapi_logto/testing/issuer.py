"""The local issuer: a mint of tokens with the endpoints of Logto in front of it."""

import time
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Self, overload

from starlette.applications import Starlette
from starlette.types import ASGIApp
from typing_extensions import Unpack

from fastapi_logto.claims import ClaimsT, TokenClaims
from fastapi_logto.clock import Clock
from fastapi_logto.dependencies import LogtoAuth
from fastapi_logto.resource_auth import ResourceAuth
from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing.directory import Directory
from fastapi_logto.testing.minting import TokenMint
from fastapi_logto.testing.server import build_app

__all__ = ["LocalIssuer"]


class LocalIssuer(TokenMint):
    """An OpenID Connect issuer shaped like Logto, for development, demos and tests.

    Signatures and endpoints are real; sign-in is not: whoever reaches it may become
    any of its users. Keys live as long as the object.

    ```python
    issuer = LocalIssuer()
    with issuer.connect(auth):  # in memory; `issuer.serve()` is for a real socket
        client.get("/user/info", headers=bearer(issuer.access_token(scope="read:user")))
    ```

    Attributes:
        app: The ASGI application with all endpoints.
        clock: The clocks: of the tokens, and of every `LogtoAuth` that is connected.
    """

    app: Starlette
    endpoint: str

    def __init__(
        self,
        *,
        endpoint: str = "http://127.0.0.1:3001",
        directory: Directory | None = None,
        now: Callable[[], float] = time.time,
        clock: Clock | None = None,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        """Make an issuer with a new P-384 key; nothing is served yet.

        Args:
            endpoint: Where the issuer lives; the issuer is this and `/oidc`.
            directory: What is known; `Directory.example()` when left out.
            now: The clock, in seconds since the epoch; instead of `clock`.
            clock: The clocks; a `ManualClock` where a test moves time.
            allowed_hosts: Further hosts that requests may name, such as `issuer` or `issuer:3001` in a container
                network. The endpoint's host, `localhost` and literal loopback addresses with its port are always
                allowed; every other `Host` header is refused with 421, against DNS rebinding.

        Raises:
            ValueError: Both `now` and `clock` are given, or an allowed host is malformed.
        """
        if clock is not None and now is not time.time:
            raise ValueError("expected now or clock, found both")
        super().__init__(endpoint=endpoint, directory=directory, now=now if clock is None else clock.now)
        self.clock: Clock = Clock(now=self._tell_time) if clock is None else clock
        self.app = build_app(self, is_away=self._is_away, allowed_hosts=allowed_hosts)
        self._outages = 0

    @overload
    def auth(self, *, scheme_name: str = "Logto", **arguments: Unpack[SettingsArguments]) -> LogtoAuth[TokenClaims]: ...

    @overload
    def auth(
        self, *, claims_model: type[ClaimsT], scheme_name: str = "Logto", **arguments: Unpack[SettingsArguments]
    ) -> LogtoAuth[ClaimsT]: ...

    def auth(
        self,
        *,
        claims_model: type[Any] = TokenClaims,
        scheme_name: str = "Logto",
        **arguments: Unpack[SettingsArguments],
    ) -> LogtoAuth[Any]:
        """Give a scheme that reaches this issuer in memory, for an application that a test builds.

        Args:
            claims_model: A subclass of `TokenClaims` with custom claims.
            scheme_name: Name in OpenAPI.
            **arguments: The fields of `LogtoSettings`. The audience is that of the issuer's tokens when left out.
        """
        from fastapi_logto.testing.connecting import build_transport  # noqa: PLC0415 - only this needs httpx

        arguments.setdefault("endpoint", self.endpoint)
        arguments.setdefault("audience", self.audience)
        # Plain http to another name than this host's goes nowhere in memory.
        arguments.setdefault("allow_http", True)
        made: LogtoAuth[Any] = LogtoAuth(
            claims_model=claims_model,
            scheme_name=scheme_name,
            clock=self.clock,
            http_transport=build_transport(self.app),
            **arguments,
        )
        return made

    @contextmanager
    def connect(self, target: ResourceAuth[Any] | ASGIApp, **arguments: Unpack[SettingsArguments]) -> Generator[Self]:
        """Have an application's own `auth` accept this issuer's tokens for the length of a block, without a network.

        The whole verification runs, with the application's own settings but for the tenant: its audience, which
        is meanwhile that of tokens whose call names none, its algorithms, its claims model. It begins without any
        key or remembered token and leaves none behind. Where the settings come from the environment, as those of
        `fastapi_logto.auth` do, they are not read: the test must not depend on them.

        Unlike an `override` this is for the whole process: all threads and tasks.

        Args:
            target: The scheme; or the application, for all the schemes that its routes ask. One of
                `for_audience()` brings along the one that it was made from.
            **arguments: Fields of `LogtoSettings` to set for the block, such as `leeway_seconds` or `audience`.

        Raises:
            ValueError: No route of the application asks a scheme.
        """
        from fastapi_logto.testing.connecting import find_providers, replace_provider  # noqa: PLC0415 - as above

        usual: SettingsArguments = {
            "endpoint": self.endpoint,
            "fetch_endpoint": None,
            "issuers": (),
            "allow_http": True,
        }
        audience = self.audience
        with ExitStack() as stack:
            for provider in reversed(find_providers(target)):
                settings = stack.enter_context(
                    replace_provider(
                        provider, {**usual, **arguments}, audience=audience, clock=self.clock, app=self.app
                    )
                )
                self._audiences.append(settings.audience[0])
                # Whichever of several equal ones goes: blocks may end in any order.
                stack.callback(self._audiences.remove, settings.audience[0])
            yield self

    @contextmanager
    def outage(self) -> Generator[None]:
        """Answer 503 to everything for the length of a block, in memory and on a socket.

        A `LogtoAuth` that holds keys goes on with them, as in production; one that holds none answers 503. After
        a failed fetch it waits before it asks again, 1 to 30 s: move the clock on where the test is to see it recover.
        """
        self._outages += 1
        try:
            yield
        finally:
            self._outages -= 1

    @contextmanager
    def serve(self, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False) -> Generator[Self]:
        """Serve on a real socket for as long as the `with` block runs.

        Inside, `endpoint` is the bound address; afterwards it is what it was before, and
        neither thread nor socket is left.

        Args:
            host: A loopback address.
            port: The port; any free one when 0.
            allow_remote: Admit a host that others can reach. Names that they use go into `allowed_hosts`.

        Raises:
            ValueError: The host is not a loopback one and `allow_remote` was not given.
            OSError: The address is in use.
            ModuleNotFoundError: uvicorn is missing; it comes with
                `pip install "fastapi-logto[testing]"`.
        """
        from fastapi_logto.testing import serving  # noqa: PLC0415 - only serving needs uvicorn

        before = self.endpoint
        with serving.listen(host=host, port=port, allow_remote=allow_remote) as sock:
            self.endpoint = serving.build_url(sock)
            try:
                with serving.run_in_thread(self.app, sock=sock):
                    yield self
            finally:
                self.endpoint = before

    def _tell_time(self) -> float:
        # Looked up late: the clock may be replaced.
        return self.now()

    def _is_away(self) -> bool:
        return self._outages > 0
