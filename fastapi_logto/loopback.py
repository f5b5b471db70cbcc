"""Which hosts are this machine: the literal loopback addresses, and exactly `localhost`."""

from ipaddress import IPv6Address, ip_address
from typing import Final

__all__ = ["is_loopback"]

_IPV6_LOOPBACK: Final = IPv6Address("::1")


def is_loopback(host: str) -> bool:
    """Return whether a connection to this host stays on this machine.

    No other name counts: `x.localhost` and `localhost.` may be looked up in DNS, which can name any address.
    Nor do other spellings of an address (`127.1`, `2130706433`, `0177.0.0.1`), which resolvers read differently.

    Args:
        host: A host name, or an address without brackets.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    # An IPv4 address inside an IPv6 one (`::ffff:127.0.0.1`) is loopback for some versions of Python only: never here.
    return address == _IPV6_LOOPBACK if isinstance(address, IPv6Address) else address.is_loopback
