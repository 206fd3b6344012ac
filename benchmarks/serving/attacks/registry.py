"""The attacks, by name. A module of this folder adds its own with `attack`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from offramp.load.connection import HOST

SECONDS = 20.0  # an attack that the server slows down ends after this time
Run = Callable[[int], int]  # port of the server; returns the bytes sent


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack.

    Attributes:
        name: In the table and on the command line.
        text: Description of one line.
        run: The attack.
    """

    name: str
    text: str
    run: Run


ATTACKS: dict[str, Attack] = {}


def attack(name: str, text: str) -> Callable[[Run], Run]:
    """Return a decorator that adds a function to the attacks."""

    def add(run: Run) -> Run:
        ATTACKS[name] = Attack(name, text, run)
        return run

    return add


def connect(port: int) -> socket.socket:
    """Return a connection to the server."""
    return socket.create_connection((HOST, port), timeout=SECONDS)


def send(client: socket.socket, blocks: Iterable[bytes]) -> int:
    """Send blocks until the server closes or stops to read. Return the number of bytes sent."""
    sent = 0
    with suppress(OSError):  # also a timeout
        for block in blocks:
            client.sendall(block)
            sent += len(block)
    return sent


def read_all(client: socket.socket) -> int:
    """Read until the server closes. Return the number of bytes."""
    size = 0
    with suppress(OSError):
        while data := client.recv(1 << 18):
            size += len(data)
    return size
