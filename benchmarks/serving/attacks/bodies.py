"""Measure what hostile bodies cost a server in CPU time, memory and delay of other clients.

Each attack is one request with a body of a given size: JSON or a form of the native API, JSON or
binary data of the Open Inference Protocol, or its message over gRPC. The server's CPU time and
memory are read from /proc, and a health check is sent every 20 ms beside it. Exit status 1: an
attack cost more than .5 s or 64 MB for a megabyte, or a health check took more than .2 s.

    python -m serving --bundle BUNDLE --port 8000 --grpc-port 8001 &
    python -m benchmarks.serving.attacks.bodies --port 8000 --grpc-port 8001 --pid $! --megabytes 1
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.attacks.inference import (
    NAME,
    REQUESTS,
    Request,
    field,
    send_message,
)
from benchmarks.serving.servers.processes import usage
from offramp.load.bodies import LENGTH

MEGABYTE = 1 << 20
HOST = "127.0.0.1"
SECONDS, MEGABYTES, DELAY = 0.5, 64.0, 0.2  # bounds: CPU and memory of a megabyte, health check
PATIENCE = 300.0  # seconds for a response
JSON = "application/json"
FORM = "multipart/form-data; boundary=B"
FILE = b'Content-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'


@dataclass(frozen=True, slots=True)
class Attack:
    """A request.

    Attributes:
        kind: Content type.
        body: Function from a size in bytes to a body of about this size.
        request: A request of the inference protocol. `None`: of `POST /classify`.
    """

    kind: str
    body: Callable[[int], bytes]
    request: Request | None = None


def _list(item: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"images":[' + (item + b",") * (size // (len(item) + 1)) + item + b"]}"


def _text(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"images":["' + piece * (size // len(piece)) + b'"]}'


def _parts(head: bytes) -> Callable[[int], bytes]:
    part = b"--B\r\n" + head + b"x\r\n"
    return lambda size: part * (size // len(part)) + b"--B--\r\n"


def _field(charset: str) -> Attack:
    return Attack(
        f"{FORM}; charset={charset}",
        lambda size: b"--B\r\n" + FIELD + b"a" * size + b"\r\n--B--\r\n",
    )


NATIVE: Mapping[str, Attack] = {
    "json: numbers": Attack(JSON, _list(b"1")),
    "json: empty strings": Attack(JSON, _list(b'""')),
    "json: empty objects": Attack(JSON, _list(b"{}")),
    "json: depth": Attack(JSON, lambda size: b"[" * size),
    "json: keys": Attack(
        JSON, lambda size: b"{" + b",".join(b'"%d":1' % i for i in range(size // 10)) + b"}"
    ),
    "json: escapes": Attack(JSON, _text(b"\\u0041")),
    "json: line ends": Attack(JSON, _text(b"\\r\\n")),
    "json: wide characters": Attack(JSON, _text("😀".encode())),
    "json: base64 of no image": Attack(JSON, _text(b"QUJD")),
    "form: charset punycode": _field("punycode"),
    "form: charset idna": _field("idna"),
    "form: charset utf-7": _field("utf-7"),
    "form: files": Attack(FORM, _parts(FILE)),
    "form: fields": Attack(FORM, _parts(FIELD)),
    "form: headers of a part": Attack(FORM, lambda size: b"--B\r\n" + b"a:b\r\n" * (size // 5)),
    "form: a long header": Attack(FORM, lambda size: b"--B\r\na: " + b"b" * size),
    "form: almost boundaries": Attack(
        FORM, lambda size: b"--B\r\n" + FILE + b"\r\n--BX" * (size // 6) + b"\r\n--B--\r\n"
    ),
}
INFERENCE = {name: Attack(JSON, request.body, request) for name, request in REQUESTS.items()}
ATTACKS: Mapping[str, Attack] = {**NATIVE, **INFERENCE}


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an attack: CPU seconds, memory growth in MB, longest health check in seconds."""

    status: int | str
    bytes_sent: int
    cpu: float
    memory: float
    health: float

    @property
    def bounded(self) -> bool:
        """Return whether all bounds hold, for the bytes that were sent."""
        megabytes = max(1.0, self.bytes_sent / MEGABYTE)
        within = self.cpu <= SECONDS * megabytes and self.memory <= MEGABYTES * megabytes
        return within and self.health <= DELAY


@dataclass(frozen=True, slots=True)
class Target:
    """A server on loopback.

    Attributes:
        port: Port for HTTP.
        pid: Its process.
        model: Name of its model.
        grpc_port: Port for gRPC. `None`: it has none, and attacks on it cannot be sent.
    """

    port: int
    pid: int
    model: str
    grpc_port: int | None = None

    def takes(self, attack: Attack) -> bool:
        """Return whether it has the door of an attack."""
        return self.grpc_port is not None or attack.request is None or not attack.request.grpc

    def body(self, attack: Attack, size: int) -> bytes:
        """Return the body of an attack for its model, of about this size in bytes."""
        body = attack.body(size)
        return body.replace(field(NAME, b"MODEL"), field(NAME, self.model.encode()), 1)

    def send(self, attack: Attack, body: bytes) -> int | str:
        """Send an attack, and return the status, or the name of the error."""
        request = attack.request
        if request is None:
            return _status(self.port, "/classify", body, {"Content-Type": attack.kind})
        if request.grpc:
            assert self.grpc_port is not None
            return send_message(self.grpc_port, body, PATIENCE)
        length = {LENGTH: str(request.binary(body))} if request.binary else {}
        path = f"/v2/models/{self.model}/infer"
        return _status(self.port, path, body, {"Content-Type": attack.kind, **length})


def measure(target: Target, attack: Attack, size: int) -> Cost:
    """Send an attack and return its cost."""
    port, pid = target.port, target.pid
    body, ended = target.body(attack, size), threading.Event()
    status: list[int | str] = []
    delays: list[float] = []

    def send() -> None:
        status.append(target.send(attack, body))
        ended.set()

    cpu, memory = usage(pid).cpu, _memory(pid)
    peak = memory
    threads = [
        threading.Thread(target=send),
        threading.Thread(target=_check_health, args=(port, ended, delays)),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, _memory(pid))
        time.sleep(0.002)
    return Cost(status[0], len(body), usage(pid).cpu - cpu, peak - memory, max(delays))


def _status(port: int, path: str, body: bytes, headers: dict[str, str]) -> int | str:
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def _check_health(port: int, ended: threading.Event, delays: list[float]) -> None:
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        while True:
            last = ended.is_set()
            start = time.perf_counter()
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            if not connection.recv(1 << 16):
                raise ConnectionError("the server closed the connection of the health check")
            delays.append(time.perf_counter() - start)
            if last:
                return
            time.sleep(0.02)


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def model_of(port: int) -> str:
    """Return the name of the only model."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    connection.request("POST", "/v2/repository/index")
    name: str = json.loads(connection.getresponse().read())[0]["name"]
    connection.close()
    return name


def main() -> int:
    """Run all attacks and print a table. Return 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="of the server, on 127.0.0.1")
    parser.add_argument("--grpc-port", type=int, help="of its gRPC; without it HTTP alone")
    parser.add_argument("--pid", type=int, required=True, help="process of the server")
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of each body")
    options = parser.parse_args()
    target = Target(options.port, options.pid, model_of(options.port), options.grpc_port)
    attacks = {name: attack for name, attack in ATTACKS.items() if target.takes(attack)}
    size, failed = int(options.megabytes * MEGABYTE), 0
    print("| attack | bytes sent | status | CPU, s | memory, MB | health check, s |")
    print("|---|---|---|---|---|---|")
    for name, attack in attacks.items():
        cost = measure(target, attack, size)
        failed += not cost.bounded
        print(
            f"| {name} | {cost.bytes_sent:,} | {cost.status} | {cost.cpu:.2f} | {cost.memory:.0f} "
            f"| {cost.health:.3f} |{'' if cost.bounded else ' over a bound'}",
            flush=True,
        )
    print(f"{len(attacks) - failed} of {len(attacks)} attacks are bounded")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
