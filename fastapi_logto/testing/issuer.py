"""The local issuer: a mint of tokens with the endpoints of Logto in front of it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Self

from starlette.applications import Starlette

from fastapi_logto.testing.directory import Directory
from fastapi_logto.testing.minting import TokenMint
from fastapi_logto.testing.server import build_app

__all__ = ["LocalIssuer"]


class LocalIssuer(TokenMint):
    """An OpenID Connect issuer shaped like Logto, for development, demos and tests.

    Signatures and endpoints are real; sign-in is not: whoever reaches it may become
    any of its users. Keys live as long as the object.

    ```python
    with LocalIssuer().serve() as issuer:
        auth = LogtoAuth(endpoint=issuer.endpoint, audience="https://api.example.test")
        token = issuer.access_token(scope="read:user")
    ```

    Attributes:
        app: The ASGI application with all endpoints.
    """

    app: Starlette
    endpoint: str

    def __init__(
        self,
        *,
        endpoint: str = "http://127.0.0.1:3001",
        directory: Directory | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make an issuer with a new P-384 key; nothing is served yet.

        Args:
            endpoint: Where the issuer lives; the issuer is this and `/oidc`.
            directory: What is known; `Directory.example()` when left out.
            now: The clock, in seconds since the epoch.
        """
        super().__init__(endpoint=endpoint, directory=directory, now=now)
        self.app = build_app(self)

    @contextmanager
    def serve(self, *, host: str = "127.0.0.1", port: int = 0, allow_remote: bool = False) -> Generator[Self]:
        """Serve on a real socket for as long as the `with` block runs.

        Inside, `endpoint` is the bound address; afterwards it is what it was before, and
        neither thread nor socket is left.

        Args:
            host: A loopback address.
            port: The port; any free one when 0.
            allow_remote: Admit a host that others can reach.

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
