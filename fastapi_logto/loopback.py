"""Which hosts are this machine: literal loopback addresses, and exactly `localhost`."""

from ipaddress import IPv6Address, ip_address
from typing import Final

_IPV6_LOOPBACK: Final = IPv6Address("::1")


def is_loopback(host: str) -> bool:
    """Return whether a connection to this host, without brackets, stays on this machine.

    No other name counts: `x.localhost` and `localhost.` may be looked up in DNS, which can return any address.
    Nor do other spellings of an address (`127.1`, `2130706433`, `0177.0.0.1`): resolvers interpret them differently.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    # An IPv4-mapped IPv6 address (`::ffff:127.0.0.1`) is loopback in some versions of Python only, so it never counts.
    return address == _IPV6_LOOPBACK if isinstance(address, IPv6Address) else address.is_loopback
