"""Write a response to a request for inference: JSON, which binary tensors can follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.http.classify import headers_of
from serving.http.connection import Headers
from serving.http.oip.answers import OutputBuilder, OutputTensor, parameters_of
from serving.http.oip.inputs import SIZE
from serving.http.oip.protocol import InferRequest
from serving.http.oip.requests import LENGTH

OCTETS = b"application/octet-stream"


class ResponseWriter:
    """Writes responses of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._builder = OutputBuilder(manifest)
        self._model = {"model_name": manifest.name, "model_version": manifest.version}

    def write(self, request: InferRequest, answers: Sequence[Answer]) -> tuple[Headers, bytes]:
        """Return the headers and the body of a response with the requested outputs."""
        binary: list[bytes] = []
        outputs = []
        for wanted, tensor in zip(
            request.outputs, self._builder.build(request, answers), strict=True
        ):
            raw = tensor.raw() if wanted.binary else None
            if raw is not None:
                binary.append(raw)
            outputs.append(_described(tensor, raw))
        response: dict[str, Any] = {**self._model, "parameters": parameters_of(request, answers)}
        if request.id:
            response["id"] = request.id
        json = orjson.dumps(response | {"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
        if not binary:
            return headers_of(json), json
        body = b"".join([json, *binary])
        return [*headers_of(body, OCTETS), (LENGTH, str(len(json)).encode())], body


def _described(tensor: OutputTensor, raw: bytes | None) -> dict[str, Any]:
    head = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if raw is not None:
        return head | {"parameters": {SIZE: len(raw)}}
    if isinstance(tensor.values, np.ndarray):
        return head | {"data": tensor.values.reshape(-1)}
    return head | {"data": [each.decode() for each in tensor.values]}
