"""Read requests from messages, and write answers as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.grpc.wire import split
from serving.http.oip.answers import OutputBuilder, parameters_of
from serving.http.oip.inputs import InputReader, InputTensor, is_base64
from serving.http.oip.parameters import ParameterReader
from serving.http.oip.protocol import MAX_ID, Images, InferRequest, malformed, read_outputs

M = TypeVar("M", bound=Message)


def parsed(kind: type[M], message: bytes) -> M:
    """Parse a message.

    Raises:
        MalformedBodyError: It is not one of this kind.
    """
    try:
        found: M = kind.FromString(message)
        return found
    except DecodeError as error:
        raise malformed(f"not a message {kind.__name__}") from error


class Parts(NamedTuple):
    """A `ModelInferRequest` without its tensors, and the bytes of these."""

    request: pb.ModelInferRequest
    raw: list[memoryview]
    elements: list[memoryview]


def split_request(message: bytes, max_images: int) -> Parts:
    """Split a `ModelInferRequest`, before the model is known that reads it.

    Raises:
        MalformedBodyError: It is not of the protocol, or exceeds a bound.
    """
    rest, raw, elements = split(message, max_images)
    return Parts(parsed(pb.ModelInferRequest, rest), raw, elements)


class RequestReader:
    """Reads requests for inference by one model.

    Args:
        inputs: Reader of the input.
        parameters: Reader of parameters.
    """

    def __init__(self, inputs: InputReader, parameters: ParameterReader) -> None:
        self._inputs = inputs
        self._parameters = parameters

    def read(self, parts: Parts, seconds: float | None) -> InferRequest:
        """Read a request.

        Args:
            parts: The request.
            seconds: Time that is left for the call, or `None` for no bound.

        Raises:
            MalformedBodyError: It is not of the protocol, or exceeds a bound.
            InvalidRequestError: As `ParameterReader.read` raises.
        """
        request, raw, elements = parts
        if len(request.id) > MAX_ID:
            raise malformed(f"id: more than {MAX_ID} characters")
        query = self._parameters.read(b"", _values(request.parameters), seconds)
        named = [(each.name, _values(each.parameters)) for each in request.outputs]
        outputs = read_outputs(named, query, binary=True)
        return InferRequest(request.id, self._images(request, raw, elements), query, outputs)

    def _images(
        self, request: pb.ModelInferRequest, raw: list[memoryview], elements: list[memoryview]
    ) -> Images:
        if len(request.inputs) != 1:
            raise malformed(f"there are {len(request.inputs)} inputs; send one")
        (found,) = request.inputs
        encoded = is_base64(_values(found.parameters))
        tensor = InputTensor(found.name, found.datatype, list(found.shape), encoded)
        if not raw:
            return self._inputs.elements(tensor, elements)
        if elements or len(raw) != 1:
            raise malformed("send raw_input_contents once, or bytes_contents")
        return self._inputs.raw(tensor, raw[0])


def _values(parameters: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    """Return the values of parameters. A parameter without one is `None`, which is refused."""
    if not parameters:
        return {}
    chosen = {
        name: (each, each.WhichOneof("parameter_choice")) for name, each in parameters.items()
    }
    return {name: getattr(each, kind) if kind else None for name, (each, kind) in chosen.items()}


class ResponseWriter:
    """Writes responses of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._builder = OutputBuilder(manifest)
        self._name, self._version = manifest.name, manifest.version

    def write(self, request: InferRequest, answers: Sequence[Answer]) -> bytes:
        """Return a `ModelInferResponse` with the requested outputs, all in raw bytes."""
        tensors = self._builder.build(request, answers)
        response = pb.ModelInferResponse(
            model_name=self._name,
            model_version=self._version,
            id=request.id,
            raw_output_contents=[each.raw() for each in tensors],
        )
        for name, value in parameters_of(request, answers).items():
            kind = "bool_param" if isinstance(value, bool) else "string_param"
            setattr(response.parameters[name], kind, value)
        for each in tensors:
            response.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        return bytes(response.SerializeToString())
