"""Connections to a Redis server with `redis.asyncio`, without its pool, its retries and its texts of errors."""

import asyncio
from importlib import import_module
from inspect import signature
from typing import Any, Final, Protocol, TypeAlias, cast

from pydantic import SecretStr

from fastapi_logto.provider.failures import explain_failure

Argument: TypeAlias = str | int

# Any other text may be a part of what was sent: a proxy may repeat it.
_CODES: Final = frozenset(
    {
        *("BUSY", "CLUSTERDOWN", "CROSSSLOT", "ERR", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"),
        *("NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGTYPE"),
    }
)


class _Connection(Protocol):
    """The part of a connection of redis-py that is used here. It connects with the first command."""

    async def send_command(self, *arguments: Argument) -> None: ...
    async def read_response(self) -> object: ...

    ssl_context: Any

    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: FBT001, FBT002 - the signature of redis-py


class Link:
    """A connection whose `repr` shows nothing of it, because error trackers show local variables."""

    def __init__(self, connection: _Connection) -> None:
        """Store the connection of redis-py."""
        self._connection = connection

    async def ask(self, *command: Argument) -> object:
        """Send a command, and return the reply: bytes, numbers, and lists of these. There is no time limit."""
        try:
            await self._connection.send_command(*command)
            return await self._connection.read_response()
        except asyncio.CancelledError as error:
            # It may become the cause of an error that is reported, and the frames of redis-py contain the password.
            raise error.with_traceback(None) from None

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)


class Connector:
    """Builds connections to one server."""

    def __init__(self, url: SecretStr) -> None:
        """Import redis-py and check the URL. No connection is opened.

        `ImportError` if the extra is not installed, `ValueError` if the URL is invalid.
        """
        try:
            self._connections: Any = import_module("redis.asyncio.connection")
            retries: Any = import_module("redis.asyncio.retry")
            backoff: Any = import_module("redis.backoff")
            # Parsing in Python would take too long on the event loop.
            import_module("hiredis")
        except ImportError as error:
            raise ImportError(
                f"RedisStore: expected redis and hiredis, found no {error.name}; install fastapi-logto[redis]"
            ) from None
        self._url = url
        known = signature(self._connections.AbstractConnection.__init__).parameters
        # The caller limits the time of a command with the connection, and decides whether to try again.
        self._options: dict[str, Any] = {
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry_on_timeout": False,
            "retry": retries.Retry(backoff.NoBackoff(), 0),
            "decode_responses": False,
            "protocol": 2,
            # Otherwise, each connection reads the version of redis-py from the disk.
            **({"driver_info": None} if "driver_info" in known else {}),
        }
        try:
            # Shared by all connections, because creating it reads the trust store.
            self._tls: Any = getattr(self._build(), "ssl_context", None)
        except Exception:  # noqa: BLE001 - redis-py's edge: its message may quote the URL
            raise ValueError(
                "url: expected the URL of a Redis server, found another text, which is not shown because it may "
                "contain a password; pass redis://host:6379/0, rediss://... or unix://..."
            ) from None

    async def open(self) -> Link:
        """Return a connection. It connects with the first command."""
        connection = self._build()
        if self._tls is not None:
            await asyncio.to_thread(self._tls.get)
            connection.ssl_context = self._tls
        return Link(connection)

    def _build(self) -> _Connection:
        options = self._connections.parse_url(self._url.get_secret_value())
        build = options.pop("connection_class", self._connections.Connection)
        return cast("_Connection", build(**{**options, **self._options}))


def explain_redis_error(error: Exception) -> str:
    """Return why a command failed, without anything of the URL, which the texts of redis-py contain."""
    # By name, because this module does not import redis-py.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"AuthenticationError", "AuthenticationWrongNumberOfArgsError"}:
        return "expected a valid user and password, found others; correct the URL of RedisStore"
    if "NoPermissionError" in names:
        return "expected a user who may run the commands, found one without permission; change the user's ACL"
    if names & {"ResponseError", "BusyLoadingError"}:
        # Only the code, such as MISCONF: the rest of the text may name keys and values.
        name = type(error).__name__
        if name == "ResponseError":
            code = str(error).partition(" ")[0]
            name = code if code in _CODES else "of another kind"
        return f"expected a successful command, found the error {name}; see the log of the server"
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    found = explain_failure(cause, layer="connection")
    return f"expected a connection, found none ({found}); check the URL, and that the server runs and is reachable"
