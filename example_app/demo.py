"""`make demo`: run this example against a local issuer, and print commands to paste.

If `LOGTO_ENDPOINT` is set, the demo uses that tenant and starts no issuer. `PORT` and `ISSUER_PORT` select the ports.
"""

import logging
import os
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import uvicorn

from fastapi_logto import auth
from fastapi_logto.testing import Directory, LocalIssuer

AUDIENCE = "https://api.example.test"
SWAGGER_CLIENT_ID = "local-spa"
MAX_PORT = 65535
TOKEN_LIFETIME_SECONDS = 12 * 3600


def describe_routes(url: str) -> str:
    """Return the text with the URLs of the API and its docs page."""
    return f"""
  API   {url}
  docs  {url}/docs
"""


def describe_issuer(url: str, issuer: LocalIssuer) -> str:
    """Return the text with the issuer's users and commands that work without changes."""

    def curl(token: str, path: str, options: str = "") -> str:
        return f"curl -i {options}{url}{path} -H 'Authorization: Bearer {token}'"

    valid = issuer.access_token(lifetime_seconds=TOKEN_LIFETIME_SECONDS)
    without_scope = issuer.access_token(scopes=[], lifetime_seconds=TOKEN_LIFETIME_SECONDS)
    forged = issuer.bad_token("forged")
    users = ", ".join(user.username for user in issuer.directory.users)
    return f"""
  issuer  {issuer.issuer}  (for development: sign in as {users}, no password)

  A valid token: 200
    {curl(valid, "/user/info")}

  A valid token without the scope: 403 insufficient_scope
    {curl(without_scope, "/user/info")}

  A forged token: 401 invalid_token
    {curl(forged, "/user/info")}

  No token: 401 auth.authorization_header_missing
    curl -i {url}/user/info

Ctrl-C stops both.
"""


def describe_tenant(url: str) -> str:
    """Return the text for a real tenant, which issues the tokens itself."""
    return f"""
  tenant  {auth.settings.endpoint}
  With an access token that was requested with resource={auth.settings.audience[0]}:
    curl -i {url}/user/info -H "Authorization: Bearer $TOKEN"

Ctrl-C stops it.
"""


def read_port(name: str, default: int) -> int:
    """Return the port that a variable selects."""
    text = os.environ.get(name, str(default))
    if not text.isascii() or not text.isdigit() or int(text) > MAX_PORT:
        raise ValueError(f"{name}: expected a port such as {default}, found {text[:80]!r}")
    return int(text)


def explain_port(name: str, port: int, error: OSError) -> OSError:
    """Return the error for a port on which the demo can't listen, with the variable that selects another."""
    reason = (error.strerror or str(error)).partition(" (")[0]
    return OSError(f"port {port}: {reason}; set {name} to another port, e.g. {name}={port + 1000} make demo")


@contextmanager
def provide_issuer() -> Generator[LocalIssuer | None]:
    """Start a local issuer and use it in the settings, unless the environment names a tenant."""
    if os.environ.get("LOGTO_ENDPOINT"):
        yield None
    else:
        with provide_local_issuer(read_port("ISSUER_PORT", 3001)) as issuer:
            yield issuer


@contextmanager
def provide_local_issuer(port: int) -> Generator[LocalIssuer]:
    """Start a local issuer and use it in the settings."""
    issuer = LocalIssuer(directory=Directory.example(AUDIENCE))
    with ExitStack() as stack:
        try:
            stack.enter_context(issuer.serve(port=port))
        except OSError as error:
            raise explain_port("ISSUER_PORT", port, error) from error
        os.environ["LOGTO_ENDPOINT"] = issuer.endpoint
        os.environ["LOGTO_AUDIENCE"] = AUDIENCE
        os.environ["LOGTO_SWAGGER_CLIENT_ID"] = SWAGGER_CLIENT_ID
        machine = issuer.directory.machines[0]
        os.environ["EXAMPLE_MACHINE_ID"] = machine.client_id
        os.environ["EXAMPLE_MACHINE_SECRET"] = machine.client_secret
        yield issuer


class DemoServer(uvicorn.Server):
    """Serves the example and prints the commands when it has started."""

    def __init__(self, *, port: int, issuer: LocalIssuer | None) -> None:
        """Prepare to serve on a port, on this machine only."""
        super().__init__(uvicorn.Config("example_app.main:app", host="127.0.0.1", port=port, log_level="warning"))
        self._url = f"http://127.0.0.1:{port}"
        self._issuer = issuer

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the URLs and commands."""
        await super().startup(sockets)
        if self.started:  # pragma: no branch - after a failed start, uvicorn exits the process itself
            text = describe_issuer(self._url, self._issuer) if self._issuer else describe_tenant(self._url)
            sys.stdout.write(describe_routes(self._url) + text)
            sys.stdout.flush()


def main() -> int:
    """Run the demo and return the exit code.

    An invalid setting or a port in use is reported in one line, without a traceback.
    """
    try:
        with provide_issuer() as issuer:
            auth.settings  # noqa: B018 - raises early if the environment is invalid
            # Show why a request was rejected: uvicorn configures only its own loggers.
            logging.basicConfig(format="%(levelname)s: %(name)s: %(message)s")
            logging.getLogger("fastapi_logto").setLevel(logging.INFO)
            port = read_port("PORT", 8000)
            try:
                sock = socket.create_server(("127.0.0.1", port))
            except OSError as error:
                raise explain_port("PORT", port, error) from error
            with sock:
                DemoServer(port=port, issuer=issuer).run([sock])
    except KeyboardInterrupt:
        # uvicorn raises it again after Ctrl-C.
        return 0  # pragma: no cover - run by a test, but the interrupt also ends the measurement
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
