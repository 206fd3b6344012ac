"""Read requests from messages, and write answers as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.grpc.wire import ID, length_delimited, split
from serving.http.oip.answers import Layout, OutputBuilder, parameters_of
from serving.http.oip.inputs import InputReader, InputTensor, is_base64
from serving.http.oip.parameters import ParameterReader, read_parameters
from serving.http.oip.protocol import MAX_ID, Images, InferRequest, malformed
from serving.http.oip.templates import MAX_CACHED_BYTES, Template, TemplateCache

RAW_OUTPUT = 6 << 3 | 2  # tag of the field `raw_output_contents`
M = TypeVar("M", bound=Message)
Parameters = tuple[tuple[str, str | bool], ...]


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
    """A `ModelInferRequest` before the model is known that reads it.

    Attributes:
        id: Its id.
        template: All but the id and the tensors.
        rest: The bytes of these.
        raw: The fields `raw_input_contents`.
        elements: The fields `bytes_contents`.
    """

    id: str
    template: Template
    rest: bytes
    raw: list[memoryview]
    elements: list[memoryview]


class MessageSplitter:
    """Splits messages `ModelInferRequest`. What many have in common is parsed once.

    Args:
        max_images: Largest number of images in one call.
    """

    def __init__(self, max_images: int) -> None:
        self._max_images = max_images
        self._templates = TemplateCache()

    def split(self, message: bytes | memoryview) -> Parts:
        """Split a message.

        Raises:
            MalformedBodyError: It is not of the protocol, or exceeds a bound.
            ParameterError: The value of a parameter is of another type, or too long.
        """
        rest, id_, raw, elements = split(message, self._max_images)
        template = self._templates.find(rest)
        if template is None:
            template = _template(parsed(pb.ModelInferRequest, rest))
        return Parts(_text(id_) if id_ else "", template, rest, raw, elements)

    def keep(self, parts: Parts) -> None:
        """Parse messages like this one, which was read, no more."""
        if not parts.template.kept and len(parts.rest) <= MAX_CACHED_BYTES:
            self._templates.keep(parts.rest, parts.template)


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise malformed("id: not a text in UTF-8") from error
    if len(text) > MAX_ID:
        raise malformed(f"id: more than {MAX_ID} characters")
    return text


def _template(request: pb.ModelInferRequest) -> Template:
    asked = read_parameters(b"", parameter_values(request.parameters))
    if len(request.inputs) != 1:
        raise malformed(f"there are {len(request.inputs)} inputs; send one")
    (found,) = request.inputs
    encoded = is_base64(parameter_values(found.parameters))
    return Template(
        InputTensor(found.name, found.datatype, list(found.shape), encoded),
        asked,
        [(each.name, parameter_values(each.parameters)) for each in request.outputs],
        binary=True,
        model=(request.model_name, request.model_version),
    )


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
            InvalidRequestError: As `ParameterReader.resolve` raises.
        """
        template = parts.template
        query = self._parameters.resolve(template.asked, seconds)
        outputs = template.outputs(query.query)
        return InferRequest(parts.id, self._images(parts), query, outputs)

    def _images(self, parts: Parts) -> Images:
        tensor, raw, elements = parts.template.tensor, parts.raw, parts.elements
        if not raw:
            return self._inputs.elements(tensor, elements)
        if elements or len(raw) != 1:
            raise malformed("send raw_input_contents once, or bytes_contents")
        return self._inputs.raw(tensor, raw[0])


def parameter_values(
    parameters: Mapping[str, pb.InferParameter | pb.ModelRepositoryParameter],
    missing: str | None = None,
) -> dict[str, object]:
    """Return the values of parameters. `missing` is that of a parameter without one."""
    if not parameters:
        return {}
    chosen = {
        name: (each, each.WhichOneof("parameter_choice")) for name, each in parameters.items()
    }
    return {name: getattr(each, kind) if kind else missing for name, (each, kind) in chosen.items()}


class ResponseWriter:
    """Writes responses of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._builder = OutputBuilder(manifest)
        self._name, self._version = manifest.name, manifest.version

    def write(self, request: InferRequest, answers: Sequence[Answer]) -> bytes:
        """Return a `ModelInferResponse` with the requested outputs, all in raw bytes."""
        layout = self._builder.layout(request.outputs, len(answers))
        parameters = tuple(parameters_of(request, answers).items())
        parts = [layout.write(parameters, lambda: self._head(layout, parameters))]
        if request.id:
            parts.append(length_delimited(ID, request.id.encode()))
        raw = layout.raw(layout.values(answers))
        parts += [length_delimited(RAW_OUTPUT, each) for each in raw]
        return b"".join(parts)

    def _head(self, layout: Layout, parameters: Parameters) -> bytes:
        """Return a response without its id and its values."""
        response = pb.ModelInferResponse(model_name=self._name, model_version=self._version)
        for name, value in parameters:
            kind = "bool_param" if isinstance(value, bool) else "string_param"
            setattr(response.parameters[name], kind, value)
        for output in layout.outputs:
            response.outputs.add(**output.head._asdict())
        return bytes(response.SerializeToString())
