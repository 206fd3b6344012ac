"""Write a response to a request for inference: JSON, which binary tensors can follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.http.classify import headers_of
from serving.http.connection import Headers
from serving.http.oip.answers import OutputBuilder, OutputHead, parameters_of
from serving.http.oip.inputs import SIZE
from serving.http.oip.protocol import InferRequest
from serving.http.oip.requests import LENGTH

OCTETS = b"application/octet-stream"
CACHED = 256  # texts of JSON
Parameters = tuple[tuple[str, str | bool], ...]
Binary = tuple[tuple[OutputHead, int], ...]  # heads of binary outputs, and their sizes in bytes


class ResponseWriter:
    """Writes responses of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._builder = OutputBuilder(manifest)
        self._model = {"model_name": manifest.name, "model_version": manifest.version}
        # JSON without data: equal for all answers whose outputs have the same sizes.
        self._cached = lru_cache(CACHED)(self._binary_json)

    def write(self, request: InferRequest, answers: Sequence[Answer]) -> tuple[Headers, bytes]:
        """Return the headers and the body of a response with the requested outputs."""
        tensors = self._builder.build(request, answers)
        parameters = tuple(parameters_of(request, answers).items())
        pairs = [*zip(request.outputs, tensors, strict=True)]
        binary = [tensor.raw() for wanted, tensor in pairs if wanted.binary]
        if len(binary) == len(tensors) and not request.id:
            sizes = zip(tensors, binary, strict=True)
            json = self._cached(tuple((each.head, len(raw)) for each, raw in sizes), parameters)
        else:
            raws = iter(binary)
            outputs = [
                _described(each.head) | {"parameters": {SIZE: len(next(raws))}}
                if wanted.binary
                else _described(each.head) | {"data": each.json()}
                for wanted, each in pairs
            ]
            json = self._json(outputs, parameters, request.id)
        if not binary:
            return headers_of(json), json
        body = b"".join([json, *binary])
        return [*headers_of(body, OCTETS), (LENGTH, b"%d" % len(json))], body

    def _binary_json(self, tensors: Binary, parameters: Parameters) -> bytes:
        outputs = [_described(head) | {"parameters": {SIZE: size}} for head, size in tensors]
        return self._json(outputs, parameters, "")

    def _json(self, outputs: list[dict[str, Any]], parameters: Parameters, name: str) -> bytes:
        response: dict[str, Any] = {**self._model, "parameters": dict(parameters)}
        if name:
            response["id"] = name
        response["outputs"] = outputs
        return orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)


def _described(head: OutputHead) -> dict[str, Any]:
    return head._asdict()
