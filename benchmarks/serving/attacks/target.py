"""A server to attack."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass

from benchmarks.serving.attacks.inference import NAME, field, send_message
from benchmarks.serving.attacks.native import Attack
from offramp.load.bodies import LENGTH

HOST = "127.0.0.1"
PATIENCE = 300.0  # seconds for a response


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


def _status(port: int, path: str, body: bytes, headers: dict[str, str]) -> int | str:
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def model_of(port: int) -> str:
    """Return the name of the only model."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    connection.request("POST", "/v2/repository/index")
    name: str = json.loads(connection.getresponse().read())[0]["name"]
    connection.close()
    return name
