"""Addresses that a server listens on, or reserves for its workers."""

from __future__ import annotations

import socket


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Name or address. `::` takes IPv4 connections too, if the system can.
        port: Number, or 0 for any free one.
        reuse_port: Let other workers listen on the same port. The kernel spreads connections over
            all of them.

    Raises:
        OSError: The address cannot be used. The text names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port),
            family=family,
            backlog=2048,
            reuse_port=reuse_port,
            dualstack_ipv6=_takes_ipv4(family),
        )
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # the address twice
        text = f"cannot listen on {host} port {port}: {reason}; choose another host or port"
        raise OSError(text) from error


def _takes_ipv4(family: int) -> bool:
    """Return True for IPv6, if this system has sockets of both families."""
    return family == socket.AF_INET6 and socket.has_dualstack_ipv6()


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that reserves an address for workers and does not listen itself.

    Raises:
        OSError: The address cannot be used, or another server has it.
    """
    with listen(host, port) as alone:  # two servers that reuse a port would not notice each other
        address = alone.getsockname()
    place = socket.socket(alone.family)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if _takes_ipv4(place.family):
        place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    place.bind(address)
    return place
