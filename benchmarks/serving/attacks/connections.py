"""Attacks on heads, framing and pipelining."""

from __future__ import annotations

import itertools
import socket
import string
import threading
from collections.abc import Iterator

from benchmarks.serving.attacks.registry import SECONDS, attack, connect, read_all, send

MB = 1_000_000
CONNECTIONS = 50
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def names(count: int) -> Iterator[bytes]:
    """Return different names of four letters."""
    letters = itertools.product(string.ascii_letters.encode(), repeat=4)
    return map(bytes, itertools.islice(letters, count))


def blocks(unit: bytes, size: int) -> Iterator[bytes]:
    """Return this many bytes, in blocks of about 100 kB."""
    block = unit * (100_000 // len(unit))
    return itertools.repeat(block, size // len(block))


def stream(port: int, start: bytes, unit: bytes, size: int) -> int:
    """Send a start and then a unit again and again, and read the response."""
    with connect(port) as client:
        sent = send(client, itertools.chain([start], blocks(unit, size)))
        client.settimeout(1)
        read_all(client)
    return sent


@attack("query-names", "5b: a query of 100 kB with 20,000 names")
def query_names(port: int) -> int:
    """Send one request with a query of many names."""
    start = b"POST /classify?%b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    return stream(port, start % b"&".join(names(20_000)), b"x", 0)


@attack("queries", "5b: 1 MB of queries of 8 kB with 1,600 names each")
def queries(port: int) -> int:
    """Send requests with the longest query that is read."""
    query = b"&".join(names(1600))
    head = b"POST /classify?%b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx" % query
    return stream(port, b"", head, MB)


@attack("header", "5b: one header of 60 MB")
def header(port: int) -> int:
    """Send a header without end."""
    return stream(port, GET[:-2] + b"a: ", b"x" * 1000, 60 * MB)


@attack("headers", "5b: 40 MB of headers of 6 bytes")
def headers(port: int) -> int:
    """Send a head without end."""
    return stream(port, GET[:-2], b"a: b\r\n", 40 * MB)


@attack("target", "5b: a target of 40 MB")
def target(port: int) -> int:
    """Send a request line without end."""
    return stream(port, b"GET /", b"x" * 1000, 40 * MB)


@attack("trailers", "5b: 40 MB of trailers of 6 bytes")
def trailers(port: int) -> int:
    """Send trailers without end."""
    return stream(port, CHUNKED + b"0\r\n", b"a: b\r\n", 40 * MB)


@attack("extensions", "5b: a chunk extension of 40 MB")
def extensions(port: int) -> int:
    """Send a chunk extension without end."""
    return stream(port, CHUNKED + b"1;", b"x" * 1000, 40 * MB)


@attack("pipeline", "5e: 10 MB of small GETs, responses read")
def pipeline(port: int) -> int:
    """Send pipelined requests on one connection, and read as fast as possible."""
    with connect(port) as client:
        end = threading.Timer(SECONDS, client.shutdown, [socket.SHUT_RDWR])
        reader = threading.Thread(target=read_all, args=(client,))
        end.start()
        reader.start()
        sent = send(client, blocks(GET, 10 * MB))
        reader.join()
        end.cancel()
    return sent


@attack("pipeline-unread", "5e: 10 MB of small GETs, responses not read")
def pipeline_unread(port: int) -> int:
    """Send pipelined requests on one connection, and read nothing."""
    with connect(port) as client:
        client.settimeout(SECONDS / 4)
        return send(client, blocks(GET, 10 * MB))


@attack("pipelines", "5e: 1 MB of small GETs on 50 connections, each behind a chunked body")
def pipelines(port: int) -> int:
    """Send pipelined requests on many connections at once."""
    size = MB // CONNECTIONS
    data = CHUNKED + b"4\r\nnone\r\n0\r\n\r\n" + GET * (size // len(GET))
    clients = [connect(port) for _ in range(CONNECTIONS)]
    sent = sum(send(client, [data]) for client in clients)
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        read_all(client)
        client.close()
    return sent


@attack("refused-body", "a body of 40 MB that is refused at its head")
def refused_body(port: int) -> int:
    """Send the whole body before reading the refusal."""
    length = 40 * MB
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    return stream(port, head, b"x" * 1000, length)
