"""The requests that a server takes, found out from the server itself.

Two protocols are known: the native API (`GET /model`), and the Open Inference Protocol v2 over
HTTP (`GET /v2/models/MODEL`), which Triton, KServe, MLServer and others speak.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import numpy as np

from offramp.errors import OfframpError, TransportError, UsageError
from offramp.load.answers import read_answer, read_output
from offramp.load.bodies import (
    BYTES,
    DTYPES,
    LENGTH,
    binary_body,
    element,
    json_body,
    random_pictures,
    random_pixels,
    random_tensors,
)
from offramp.load.outcomes import OK
from offramp.load.sender import Read

PIXELS = "application/vnd.offramp.uint8"
FILE = "application/octet-stream"
JSON = "application/json"
DIFFERENT = 32  # random images
SECONDS = 30.0  # for a description
PORTS = {"http": 80, "https": 443}
Protocol = Literal["auto", "native", "oip"]
Encoding = Literal["binary", "json"]
Json = Any  # of a server


class TargetError(OfframpError):
    """The server takes no requests of a known form."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server.

    Attributes:
        host: Its name or address.
        port: Its port.
        tls: Connect with TLS.
        root: Path before all others, without a slash at its end.
        headers: Header fields of each request.
    """

    host: str
    port: int
    tls: bool
    root: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        return kind(self.host.strip("[]"), self.port, timeout=SECONDS)

    def get(self, path: str, method: str = "GET") -> Json | None:
        """Return the JSON of a path, or `None` if the server has no such path.

        Raises:
            TransportError: The server cannot be reached, refuses, or sends no JSON.
        """
        connection = self._connection()
        try:
            body = b"{}" if method == "POST" else None
            connection.request(method, self.root + path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise TransportError(f"{self.host}:{self.port} cannot be reached: {error}") from error
        finally:
            connection.close()
        if response.status in (404, 405, 501):
            return None
        if response.status != OK:
            raise TransportError(f"{path} answers {response.status}: {content[:200]!r}")
        try:
            return json.loads(content)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Target:
    """The requests that are sent to a server.

    Attributes:
        protocol: Name of the protocol.
        model: Name of the model.
        path: Path and query.
        bodies: Bodies, with one image each.
        headers: Header fields.
        read: Reads the responses.
        full_flops: Flops of full depth, if the server states them.
    """

    protocol: str
    model: str
    path: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str]
    read: Read
    full_flops: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The requests that are asked for.

    Attributes:
        files: Image files. Without them images are random.
        query: Raw query of each request.
        model: Name of the model, or `None` for the only one. For the inference protocol.
        encoding: Form of the body. For the inference protocol.
        seed: Of random images.
    """

    files: Sequence[bytes] = ()
    query: str = ""
    model: str | None = None
    encoding: Encoding = "binary"
    seed: int = 0

    @property
    def suffix(self) -> str:
        """The query with its question mark, if there is one."""
        return f"?{self.query}" if self.query else ""


def address_of(url: str, headers: Mapping[str, str]) -> Address:
    """Return the address in a URL.

    Raises:
        TargetError: It is not the URL of a server.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise TargetError(f"{url}: {error}") from error
    if parts.scheme not in PORTS or not host or parts.query or parts.fragment:
        raise TargetError(f"{url}: not the URL of a server, as http://localhost:8000")
    host = f"[{host}]" if ":" in host else host
    root = parts.path.rstrip("/")
    return Address(host, port or PORTS[parts.scheme], parts.scheme == "https", root, headers)


def find_target(address: Address, protocol: Protocol, wanted: Wanted) -> Target:
    """Return the requests that a server takes.

    Raises:
        TransportError: The server cannot be reached, or refuses.
        TargetError: It speaks no known protocol, takes no single image, or describes its model in
            an unknown form.
        UsageError: A model is named for the native protocol.
    """
    try:
        return _find(address, protocol, wanted)
    except (KeyError, TypeError, ValueError) as error:
        text = f"the description of the model at {address.host}:{address.port} has an unknown form"
        raise TargetError(f"{text}: {error!r}") from error


def _find(address: Address, protocol: Protocol, wanted: Wanted) -> Target:
    if protocol == "native" and wanted.model is not None:
        raise UsageError("--model is for the Open Inference Protocol, not for the native one")
    if protocol != "oip" and wanted.model is None:
        described = address.get("/model")
        if isinstance(described, dict) and "input" in described:
            return _native(address, described, wanted)
        if protocol == "native":
            raise TargetError(f"{address.root}/model does not describe a model of Offramp")
    name = wanted.model or _only_model(address)
    described = address.get(f"/v2/models/{quote(name, safe='')}")
    if not isinstance(described, dict):
        raise TargetError(f"there is no model {name} at {address.root}/v2/models")
    return _inference(address, described, name, wanted)


def _native(address: Address, model: Json, wanted: Wanted) -> Target:
    rng = np.random.default_rng(wanted.seed)
    size = model["input"]
    bodies = wanted.files or random_pixels(DIFFERENT, size["height"], size["width"], rng)
    headers = {**address.headers, "Content-Type": FILE if wanted.files else PIXELS}
    path = f"{address.root}/classify{wanted.suffix}"
    flops = model.get("full_flops")
    return Target("native", model.get("name", ""), path, bodies, headers, read_answer, flops)


def _only_model(address: Address) -> str:
    found = address.get("/v2/repository/index", "POST")
    rows = found if isinstance(found, list) else []
    names = list(dict.fromkeys(str(each["name"]) for each in rows))  # a row for each version
    if len(names) == 1:
        return names[0]
    listed = f"the server has {', '.join(names)}" if names else "the server lists no models"
    raise TargetError(f"--model: a name is needed; {listed}")


def _values(datatype: str, shape: Sequence[int], wanted: Wanted) -> list[Any]:
    """Return the values of an input: the files that are wanted, or random ones."""
    rng = np.random.default_rng(wanted.seed)
    if datatype == BYTES:
        return [*(wanted.files or random_pictures(DIFFERENT, rng))]
    return [*random_tensors(DIFFERENT, datatype, shape, rng)]


def _inference(address: Address, model: Json, name: str, wanted: Wanted) -> Target:
    inputs = model.get("inputs", ())
    if len(inputs) != 1:
        raise TargetError(f"the model {name} has {len(inputs)} inputs; one is supported")
    tensor, datatype, shape = (inputs[0][key] for key in ("name", "datatype", "shape"))
    shape = [max(1, int(side)) for side in shape]
    if datatype != BYTES and (wanted.files or datatype not in DTYPES):
        files = "image files are sent as BYTES" if wanted.files else "it is not supported"
        raise TargetError(f"the input of the model {name} is {datatype}; {files}")
    values = _values(datatype, shape, wanted)
    if wanted.encoding == "json":
        headers = {**address.headers, "Content-Type": JSON}
        bodies = [json_body(tensor, datatype, shape, value) for value in values]
    else:
        data = [element(each) if isinstance(each, bytes) else each.tobytes() for each in values]
        parts = [binary_body(tensor, datatype, shape, each) for each in data]
        headers = {**address.headers, "Content-Type": FILE, LENGTH: str(parts[-1][1])}
        bodies = [body for body, _ in parts]
    path = f"{address.root}/v2/models/{quote(name, safe='')}/infer{wanted.suffix}"
    return Target("oip", name, path, bodies, headers, read_output)
