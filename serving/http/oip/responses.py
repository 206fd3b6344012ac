"""Write a response to a request for inference: JSON, which binary tensors can follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.http.classify import headers_of
from serving.http.connection import Headers
from serving.http.oip.answers import Layout, OutputBuilder, Values, parameters_of
from serving.http.oip.inputs import SIZE
from serving.http.oip.protocol import InferRequest
from serving.http.oip.requests import LENGTH

OCTETS = b"application/octet-stream"
Data = dict[str, Any]
Parameters = dict[str, str | bool]


class ResponseWriter:
    """Writes responses of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._builder = OutputBuilder(manifest)
        self._model = {"model_name": manifest.name, "model_version": manifest.version}

    def write(self, request: InferRequest, answers: Sequence[Answer]) -> tuple[Headers, bytes]:
        """Return the headers and the body of a response with the requested outputs."""
        layout = self._builder.layout(request.outputs, len(answers))
        values, parameters = layout.values(answers), parameters_of(request, answers)
        if not all(each.binary for each in request.outputs):
            return self._write_mixed(request, layout, values, parameters)
        binary = layout.raw(values)
        key = tuple(map(len, binary)), tuple(parameters.items())
        json = layout.write(key, lambda: self._json(_sized(layout, binary), parameters))
        if request.id:
            json = b'%b,"id":%b}' % (json[:-1], orjson.dumps(request.id))
        return _with_binary(json, binary)

    def _write_mixed(
        self,
        request: InferRequest,
        layout: Layout,
        values: Sequence[Values],
        parameters: Parameters,
    ) -> tuple[Headers, bytes]:
        binary, outputs = [], []
        for wanted, output, each in zip(request.outputs, layout.outputs, values, strict=True):
            described = output.head._asdict()
            if wanted.binary:
                binary.append(output.raw(each))
                outputs.append(described | {"parameters": {SIZE: len(binary[-1])}})
            else:
                outputs.append(described | {"data": output.json(each)})
        json = self._json(outputs, parameters, request.id)
        return _with_binary(json, binary) if binary else (headers_of(json), json)

    def _json(self, outputs: Sequence[Data], parameters: Parameters, name: str = "") -> bytes:
        response: Data = {**self._model, "parameters": parameters}
        if name:
            response["id"] = name
        response["outputs"] = outputs
        return orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)


def _sized(layout: Layout, binary: Sequence[bytes]) -> list[Data]:
    pairs = zip(layout.outputs, binary, strict=True)
    return [each.head._asdict() | {"parameters": {SIZE: len(raw)}} for each, raw in pairs]


def _with_binary(json: bytes, binary: Sequence[bytes]) -> tuple[Headers, bytes]:
    body = b"".join([json, *binary])
    return [*headers_of(body, OCTETS), (LENGTH, b"%d" % len(json))], body
