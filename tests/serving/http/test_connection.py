import socket
import time

import pytest

from serving.http import connection as protocol

HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def connect(server, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.4)
    return lambda: socket.create_connection(("127.0.0.1", server.port), timeout=10)


def seconds_to_the_end(connection):
    start = time.monotonic()
    assert connection.recv(1) == b""
    return time.monotonic() - start


@pytest.mark.parametrize("begun", [b"", HEAD[:-2]], ids=["nothing", "part of a head"])
def test_who_never_ends_a_head_is_hung_up_on(connect, begun) -> None:
    with connect() as connection:
        connection.sendall(begun)
        assert 0.2 < seconds_to_the_end(connection) < 5


def trickle(connection, seconds) -> None:
    connection.sendall(HEAD[:-2])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"x")
        time.sleep(0.02)


def test_bytes_that_trickle_in_buy_no_time(connect) -> None:
    with connect() as connection, pytest.raises(ConnectionError):
        trickle(connection, 5)


@pytest.mark.parametrize("begun", [HEAD[:9], b"\r\n"], ids=["part of a head", "no head at all"])
def test_a_second_head_has_as_long_from_its_first_byte(connect, begun) -> None:
    with connect() as connection:
        for _ in range(3):  # idle between requests for longer than a head may take
            connection.sendall(HEAD)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.6)
        connection.sendall(begun)
        assert 0.2 < seconds_to_the_end(connection) < 5


def test_a_slow_body_has_a_time_of_its_own(connect) -> None:
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    with connect() as connection:
        connection.sendall(head[:-2])
        time.sleep(0.2)
        connection.sendall(head[-2:])
        time.sleep(0.6)
        connection.sendall(b"none")
        assert connection.recv(4096).startswith(b"HTTP/1.1 415")
