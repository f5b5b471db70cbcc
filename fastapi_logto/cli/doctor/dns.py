"""Find out how the transport reaches a host: at its addresses, or through a proxy."""

import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from fastapi_logto.provider.failures import ExchangeError


def resolve(host: str, *, timeout_seconds: float) -> list[str]:
    """Return the addresses of a host; `ExchangeError` if it has none or the lookup times out."""
    found: list[str] = []
    failed: list[OSError | UnicodeError] = []

    def look_up() -> None:
        try:
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            # A label of more than 63 characters is a UnicodeError.
            failed.append(error)

    # The system resolver has no deadline, and an event loop would wait for its thread at the end.
    thread = threading.Thread(target=look_up, daemon=True, name="fastapi-logto: resolve")
    thread.start()
    thread.join(timeout_seconds)
    if failed or not found:
        reason = _describe_failure(failed[0]) if failed else "no response in time"
        raise ExchangeError(f"{host}: {reason}", layer="dns")
    return list(dict.fromkeys(found))


def _describe_failure(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def find_proxy(url: str) -> str | None:
    """Return the host of the proxy that is used for a URL; `None` for plain http, which never uses one."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if proxy is None:
        return None
    try:
        # A proxy may be written without its scheme. Only its host is shown, because its URL may contain credentials.
        host = urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname
    except ValueError:
        host = None
    return host or "an invalid URL"
