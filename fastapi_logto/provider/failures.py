"""Why an exchange with the provider failed, and at which layer."""

import socket
import ssl
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from fastapi_logto.errors import LogtoError

FailedLayer: TypeAlias = Literal["dns", "tls", "no_tls", "connection", "http"]
"""The layer at which a request failed: `no_tls` means that the server speaks another protocol than TLS, `http` that the
server responded.
"""

# OpenSSL reads the response of a server for plain http as a TLS record. The second reason is that of OpenSSL 3.2.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})


class FetchError(LogtoError):
    """A document of the provider could not be fetched.

    Attributes:
        status: The HTTP status, if it was not 200; `None` if there was no response.
        retry_after_seconds: The provider's `Retry-After`; `None` without one.
        url: The URL that was requested, if there was one.
        is_about_request: The endpoint responded, and only the body of this response is unusable. Users choose some of
            what is in a body, so that it says nothing about the next request.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: int | None = None,
        url: str | None = None,
        is_about_request: bool = False,
    ) -> None:
        super().__init__(message)
        self.status: int | None = status
        self.retry_after_seconds: int | None = retry_after_seconds
        self.url: str | None = url
        self.is_about_request: bool = is_about_request


class ExchangeError(LogtoError):
    """There is no response, or it is incomplete, too large or encoded. The message names no URL and quotes no body.

    Attributes:
        layer: The layer at which the request failed.
        is_timeout: There was no complete response in time.
        is_about_request: As in `FetchError`.
    """

    def __init__(
        self, message: str, *, layer: FailedLayer, is_timeout: bool = False, is_about_request: bool = False
    ) -> None:
        super().__init__(message)
        self.layer: FailedLayer = layer
        self.is_timeout: bool = is_timeout
        self.is_about_request: bool = is_about_request


class TooLargeError(ExchangeError):
    """The body of the response is larger than the limit."""

    def __init__(self, *, max_bytes: int) -> None:
        super().__init__(f"expected at most {max_bytes} bytes, found more", layer="http", is_about_request=True)


def explain_failure(error: Exception, *, layer: FailedLayer) -> ExchangeError:
    """Return the cause of an error of the HTTP client, in a few words. `layer` is the last one that was reached."""
    for cause in _iter_causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ExchangeError(f"invalid certificate: {cause.verify_message}", layer="tls")
        if isinstance(cause, ssl.SSLError):
            # Only OpenSSL's own errors have a reason.
            reason = getattr(cause, "reason", None) or type(cause).__name__
            if reason in _NO_TLS:
                return ExchangeError(
                    f"no TLS: the server speaks another protocol, such as plain http ({reason})", layer="no_tls"
                )
            return ExchangeError(f"TLS failed: {reason}", layer="tls")
        if isinstance(cause, socket.gaierror):
            return ExchangeError(f"no address: {cause.strerror}", layer="dns")
        if isinstance(cause, ConnectionRefusedError):
            return ExchangeError("connection refused: nothing listens there", layer="connection")
    # Only its class, because its text can contain the URL. An OSError: the trust store in SSL_CERT_FILE is missing. An
    # ImportError: the package for the proxy in the environment is missing.
    return ExchangeError(type(error).__name__, layer=layer)


def _iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes. Contexts are not followed: the caller may be handling an unrelated error."""
    cause: object = error
    while isinstance(cause, BaseException):
        yield cause
        # A group has one error for each address of the host. httpcore drops the cause, but keeps it as an argument.
        inner: tuple[object, ...] = getattr(cause, "exceptions", cause.args)
        cause = cause.__cause__ or (inner[-1] if inner else None)
