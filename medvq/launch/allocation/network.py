"""Addresses and ports for processes on different nodes."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

from medvq.errors import MissingError

ALONE = "127.0.0.2"
"""A loopback address that Ray does not replace by the address that other machines see, as it does with 127.0.0.1."""
SIOCGIFADDR = 0x8915


def address_towards(peer: str) -> str:
    """Return the address of this node on the route to another node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((peer, 9))  # sends no packet; it only looks up the route
        return str(s.getsockname()[0])


def address_of(interface: str) -> str:
    """Return the IPv4 address of a network interface.

    Raises:
        MissingError: the interface does not exist or has no address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            found = fcntl.ioctl(s.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError as e:
            there = ", ".join(name for _, name in socket.if_nameindex())
            raise MissingError(
                f"no network interface {interface} with an address",
                where=socket.gethostname(),
                hint=f"there are {there}",
            ) from e
    return socket.inet_ntoa(found[20:24])


def interface_of(address: str) -> str | None:
    """Return the network interface that has an address; None if there is none."""
    for _, name in socket.if_nameindex():
        with contextlib.suppress(MissingError):
            if address_of(name) == address:
                return name
    return None


def free_ports(address: str, count: int) -> list[int]:
    """Return different free TCP ports of an address."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            s = stack.enter_context(socket.socket())
            s.bind((address, 0))
            ports.append(int(s.getsockname()[1]))
    return ports


def answers(address: str, port: int) -> bool:
    """Return whether something listens on a port."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
