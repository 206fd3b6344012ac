"""Addresses that a server listens on."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from serving.processes.addresses import listen, reserve
from tests.serving.servers import Start, refused


@pytest.mark.parametrize("reuse_port", [False, True])
def test_an_address_is_not_shared_with_another_server(reuse_port: bool) -> None:
    with listen("127.0.0.1", 0, reuse_port=reuse_port) as other:
        port = other.getsockname()[1]
        says = f"on 127.0.0.1 port {port}: Address already in use; choose another host or port$"
        with pytest.raises(OSError, match=says):
            reserve("127.0.0.1", port)


def test_several_sockets_can_use_a_reserved_address_which_takes_no_connection_itself() -> None:
    with reserve("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        assert refused("127.0.0.1", port)
        with (
            listen("127.0.0.1", port, reuse_port=True),
            listen("127.0.0.1", port, reuse_port=True),
            socket.create_connection(("127.0.0.1", port)),
        ):
            pass


@pytest.mark.parametrize("several", [False, True])
def test_every_address_of_ipv6_is_every_address_of_ipv4_too(several: bool) -> None:
    with reserve("::", 0) as place:
        port = 0 if not several else place.getsockname()[1]
        with listen("::", port, reuse_port=several) as listener:
            port = listener.getsockname()[1]
            for host in ("::1", "127.0.0.1"):
                with socket.create_connection((host, port), timeout=5):
                    pass


def test_an_ipv4_address_in_use_refuses_every_address_of_ipv6() -> None:
    with listen("0.0.0.0", 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on :: port {port}"):
            reserve("::", port)


def test_one_ipv6_address_takes_no_other() -> None:
    with listen("::1", 0) as listener:
        port = listener.getsockname()[1]
        assert refused("127.0.0.1", port)


def test_two_workers_serve_both_families(bundle: Path, start: Start) -> None:
    with start(bundle, "--workers", "2", "--threads", "1", "--host", "::") as pair:
        assert pair.url.startswith("http://[::]:")
        port = pair.url.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]"):
            for _ in range(4):  # new connections, which reach both workers
                assert httpx.get(f"http://{host}:{port}/health/ready").status_code == 200
