"""Requests of the Open Inference Protocol as bytes, and responses as arrays."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/testnet/infer"
TYPES = {"INT64": "<i8", "FP32": "<f4", "BOOL": "?", "UINT8": "u1"}
Tensors = dict[str, NDArray[Any]]


def elements(files: Sequence[bytes]) -> bytes:
    """Return the binary form of a tensor BYTES."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)


def head(
    shape: object, datatype: str = "BYTES", data: bytes | None = None, **fields: Any
) -> dict[str, Any]:
    """Return the JSON of a request with the input `image`, binary if it has data."""
    tensor: dict[str, Any] = {"name": "image", "shape": shape, "datatype": datatype}
    if data is not None:
        tensor["parameters"] = {"binary_data_size": len(data)}
    return {"inputs": [tensor], **fields}


def send(
    client: httpx.Client, document: object, data: bytes = b"", path: str = INFER, **options: Any
) -> httpx.Response:
    """Send a request, with its length if binary data follow."""
    text = json.dumps(document).encode()
    headers = {LENGTH: str(len(text))} if data else {}
    return client.post(path, content=text + data, headers=headers, **options)


def send_files(client: httpx.Client, files: Sequence[bytes], **fields: Any) -> httpx.Response:
    """Send image files as a binary tensor, and ask for binary outputs."""
    data = elements(files)
    parameters = {"binary_data_output": True, **fields.pop("parameters", {})}
    document = head([len(files)], data=data, parameters=parameters, **fields)
    return send(client, document, data)


def outputs(response: httpx.Response) -> Tensors:
    """Return the outputs of a response by name. Elements of BYTES are texts."""
    assert response.status_code == 200, response.text
    size = int(response.headers.get(LENGTH, len(response.content)))
    document, data = json.loads(response.content[:size]), response.content[size:]
    found = {}
    for tensor in document["outputs"]:
        if "data" in tensor:
            values = np.array(tensor["data"])
        else:
            count = tensor["parameters"]["binary_data_size"]
            raw, data = data[:count], data[count:]
            values = values_of(tensor["datatype"], raw)
        found[tensor["name"]] = values.reshape(tensor["shape"])
    assert not data
    return found


def values_of(datatype: str, raw: bytes) -> NDArray[Any]:
    """Return the values of a binary tensor, flat."""
    if datatype != "BYTES":
        return np.frombuffer(raw, TYPES[datatype])
    texts = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return np.array(texts)


def check_equal(tensors: Tensors, answers: Sequence[dict[str, Any]]) -> None:
    """Compare outputs with the answers of the native API, a row for each image."""
    for name in ("label", "index", "exit", "flops"):
        assert tensors[name].tolist() == [answer[name] for answer in answers]
    for name in ("probability", "confidence"):
        expected = [answer[name] for answer in answers]
        np.testing.assert_allclose(tensors[name], expected, atol=1e-6)
    assert tensors["probabilities"].argmax(1).tolist() == tensors["index"].tolist()
    np.testing.assert_allclose(tensors["probabilities"].max(1), tensors["probability"])
