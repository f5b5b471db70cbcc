"""The local issuer: it mints tokens and serves Logto's endpoints."""

from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from types import EllipsisType
from typing import Any, Self

from starlette.applications import Starlette
from starlette.types import ASGIApp
from typing_extensions import Unpack

from fastapi_logto.auth import LogtoAuth
from fastapi_logto.clock import Clock
from fastapi_logto.revocation.revocations import Revocations
from fastapi_logto.settings import SettingsArguments
from fastapi_logto.testing.bad_tokens import BadToken, build_bad_token
from fastapi_logto.testing.directory import Directory
from fastapi_logto.testing.issuer.administration import Administration
from fastapi_logto.testing.issuer.server import build_app
from fastapi_logto.testing.overriding import find_providers
from fastapi_logto.verification.claims import ClaimsT, TokenClaims


class LocalIssuer(Administration):
    """An OpenID Connect issuer that behaves like Logto, for development, demos and tests.

    Signatures and endpoints are real, but sign-in needs no password: anyone who can connect can sign in as any user.
    Each object has its own keys. Tokens are minted as requested, without checking any permission. Omitted arguments
    default to the first entries of the directory, so a test can start from a valid token and change one thing.

    ```python
    issuer = LocalIssuer()
    with issuer.connect(auth):  # in memory; use `issuer.serve()` for a real socket
        client.get("/user/info", headers=bearer(issuer.access_token(scopes=["read:user"])))
    ```

    Attributes:
        app: The ASGI application with all endpoints.
        endpoint: The URL of the issuer, without `/oidc` and without a trailing slash, like the endpoint of a tenant.
        directory: The users, clients and resources.
        clock: The clock of the tokens and of every connected `LogtoAuth`.
    """

    app: Starlette
    endpoint: str

    def __init__(
        self,
        *,
        endpoint: str = "http://127.0.0.1:3001",
        directory: Directory | None = None,
        clock: Clock | None = None,
        allowed_hosts: Collection[str] = (),
        allow_remote_webhooks: bool = False,
    ) -> None:
        """Create an issuer with a new P-384 key. It is not served yet.

        Args:
            endpoint: The URL, like the endpoint of a tenant. The issuer identifier is this URL followed by `/oidc`.
            directory: The users, clients and resources; `Directory.example()` by default.
            clock: The clock; a `ManualClock` lets a test move the time.
            allowed_hosts: Additional hosts for requests, e.g. `issuer` or `issuer:3001` in a container network.
                The endpoint's host, `localhost` and literal loopback addresses with its port are always allowed.
                Any other `Host` header is rejected with 421, which prevents DNS rebinding.
            allow_remote_webhooks: Send webhooks and logout tokens to other machines too, e.g. in a container network.
                Anyone who can reach the issuer can then make it send requests to any host.

        Raises:
            ValueError: An allowed host is malformed.
        """
        super().__init__(
            endpoint=endpoint, directory=directory, clock=clock, allow_remote_webhooks=allow_remote_webhooks
        )
        self.app = build_app(
            self,
            keys=self._keys,
            issued=self._issued,
            tokens=self._tokens,
            webhooks=self._webhooks,
            is_away=self._is_away,
            allowed_hosts=allowed_hosts,
        )
        self._outages = 0

    def bad_token(
        self,
        kind: BadToken,
        *,
        scopes: Collection[str] | EllipsisType | None = ...,
        audience: str | None = None,
        organization_id: str | None = None,
    ) -> str:
        """Return a token that must be rejected for exactly one reason.

        `BAD_TOKENS` lists every kind with the `reason` of its error response.

        Args:
            kind: The kind of invalid token.
            scopes: As in `access_token`.
            audience: As in `access_token`.
            organization_id: As in `access_token`.
        """
        valid = self.access_token(scopes=scopes, audience=audience, organization_id=organization_id)
        return build_bad_token(self, kind, valid=valid, key=self._keys.current)

    def auth(
        self,
        *,
        claims_model: type[ClaimsT] = TokenClaims,  # type: ignore[assignment]  # ClaimsT has this default
        scheme_name: str = "Logto",
        revocations: Revocations | None = None,
        **arguments: Unpack[SettingsArguments],
    ) -> LogtoAuth[ClaimsT]:
        """Return a `LogtoAuth` that is connected to this issuer in memory, for an application built by a test.

        Args:
            claims_model: A subclass of `TokenClaims` with custom claims.
            scheme_name: Name of the security scheme in OpenAPI.
            revocations: Reject tokens that were revoked.
            **arguments: The fields of `LogtoSettings`. The audience is that of the issuer's tokens by default.
        """
        from fastapi_logto.testing.issuer.connecting import build_transport  # noqa: PLC0415 - only this needs httpx

        arguments.setdefault("endpoint", self.endpoint)
        arguments.setdefault("audience", self.audience)
        # Safe even for a host that is not loopback: requests stay in memory.
        arguments.setdefault("allow_http", True)
        return LogtoAuth(
            claims_model=claims_model,
            scheme_name=scheme_name,
            revocations=revocations,
            clock=self.clock,
            http_transport=build_transport(self.app),
            **arguments,
        )

    @contextmanager
    def connect(self, target: LogtoAuth[Any] | ASGIApp, **arguments: Unpack[SettingsArguments]) -> Generator[Self]:
        """Make an application's own `auth` accept this issuer's tokens inside a `with` block, without a network.

        Tokens are verified completely, with the application's own settings except for the tenant. Tokens that are
        minted without an audience get the application's audience. The block starts without cached keys and tokens,
        and leaves none behind. If the settings come from the environment, as for `fastapi_logto.auth`, the environment
        is not read, because the test must not depend on it.

        Unlike `override`, this affects all threads and tasks of the process.

        Args:
            target: The `LogtoAuth`, or an application to connect all schemes that its routes use. With a scheme from
                `for_audience()`, the `LogtoAuth` that it was made from is connected too.
            **arguments: Fields of `LogtoSettings` to set inside the block, e.g. `leeway_seconds` or `audience`.

        Raises:
            ValueError: No route of the application depends on a scheme.
        """
        from fastapi_logto.testing.issuer.connecting import replace_provider  # noqa: PLC0415 - as above

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
                # Blocks may end in any order; it does not matter which of several equal entries is removed.
                stack.callback(self._audiences.remove, settings.audience[0])
            yield self

    @contextmanager
    def outage(self) -> Generator[None]:
        """Respond with 503 to every request inside a `with` block, in memory and on a socket.

        A `LogtoAuth` with cached keys keeps working, as in production; one without keys responds with 503. After a
        failed fetch it waits 1 to 30 s before the next attempt: advance the clock to test the recovery.
        """
        self._outages += 1
        try:
            yield
        finally:
            self._outages -= 1

    @contextmanager
    def serve(self, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False) -> Generator[Self]:
        """Serve on a real socket inside a `with` block.

        Inside the block, `endpoint` is the bound address. At the end, `endpoint` is reset, the thread ends, and the
        socket is closed.

        Args:
            host: A loopback address.
            port: The port; 0 selects any free port.
            allow_remote: Allow a host that others can reach. Add the names that they use to `allowed_hosts`.

        Raises:
            ValueError: The host is not a loopback address and `allow_remote` is not set.
            OSError: The address is in use.
            ModuleNotFoundError: uvicorn is missing; install it with
                `pip install "fastapi-logto[testing]"`.
        """
        from fastapi_logto.testing.issuer import serving  # noqa: PLC0415 - only serving needs uvicorn

        before = self.endpoint
        with serving.listen(host=host, port=port, allow_remote=allow_remote) as sock:
            self.endpoint = serving.build_url(sock)
            try:
                with serving.run_in_thread(self.app, sock=sock):
                    yield self
            finally:
                self.endpoint = before

    def _is_away(self) -> bool:
        return self._outages > 0
