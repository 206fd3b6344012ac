"""Read a request for inference: JSON, which binary tensors can follow.

JSON without binary tensors has the images as base64 or as numbers. Its characters are counted
before it is parsed, as those of the native API are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from serving.http.bodies.json_document import parse_json
from serving.http.bodies.json_images import MARKS, has_more
from serving.http.oip.inputs import SIZE, InputReader, InputTensor, is_base64
from serving.http.oip.parameters import ParameterReader
from serving.http.oip.protocol import (
    MAX_ID,
    Images,
    InferRequest,
    malformed,
    read_outputs,
    shown,
)

LENGTH = b"inference-header-content-length"  # header: bytes of the JSON before binary tensors
MAX_LENGTH_DIGITS = 20
MAX_JSON_BYTES = 1 << 16  # of JSON that binary tensors follow
SPARE_MARKS = 512  # besides 4 for each image: outputs and parameters
BINARY_OUTPUT = "binary_data_output"
# The model's name is in the URL. Some clients repeat it.
FIELDS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
OUTPUT_FIELDS = ("name", "parameters")
# The kinds of fields, in words.
LIST, OBJECT = "a list", "an object"
ID = f"a string of at most {MAX_ID} characters"
Data = dict[str, Any]
V = TypeVar("V", str, list[object], dict[str, object])


class RequestReader:
    """Reads requests for inference.

    Args:
        inputs: Reader of the input.
        parameters: Reader of parameters.
    """

    def __init__(self, inputs: InputReader, parameters: ParameterReader) -> None:
        self._inputs = inputs
        self._parameters = parameters
        marks = 4 * inputs.max_images + SPARE_MARKS
        self._binary_limits = dict.fromkeys(MARKS, marks)
        # Pixels as numbers, flat or nested.
        self._limits = self._binary_limits | {
            b",": marks + inputs.numbers,
            b"[": marks + inputs.numbers // 2,
        }

    def read(self, length: bytes | None, body: bytes, query: bytes) -> InferRequest:
        """Read a request.

        Args:
            length: Header `Inference-Header-Content-Length`, or `None`.
            body: The whole body.
            query: Raw query string of the URL.

        Raises:
            MalformedBodyError: The body is not of the protocol, or exceeds a bound.
            InvalidRequestError: As `ParameterReader.read` raises.
        """
        size = json_bytes(length, len(body))
        if size == 0 and length is not None:  # the body is the only element of the input
            parsed = self._parameters.read(query, {})
            return InferRequest("", [body], parsed, read_outputs((), parsed, binary=False))
        document = self._document(body, size)
        parameters = _field(document, "parameters", dict, OBJECT)
        parsed = self._parameters.read(query, parameters)
        binary = parameters.get(BINARY_OUTPUT, False)
        if not isinstance(binary, bool):
            raise malformed(f"parameters: {BINARY_OUTPUT} is true or false")
        named = [_named(each) for each in _field(document, "outputs", list, LIST)]
        outputs, name = read_outputs(named, parsed, binary=binary), _id(document)
        images = self._images(document, memoryview(body)[size:])
        return InferRequest(name, images, parsed, outputs)

    def _document(self, body: bytes, size: int) -> Data:
        whole = size == len(body)
        if not whole and size > MAX_JSON_BYTES:
            raise malformed(f"{size} bytes of JSON before binary data; send {MAX_JSON_BYTES}")
        json = body if whole else body[:size]
        for mark, limit in (self._limits if whole else self._binary_limits).items():
            if _exceeds(json, mark, limit):
                raise malformed(f"the JSON has more than {limit} {MARKS[mark]}")
        try:
            document = parse_json(json)
        except (ValueError, RecursionError) as error:
            raise malformed(f"invalid JSON: {error}") from None
        return _checked(document, FIELDS, "the request")

    def _images(self, document: Data, binary: memoryview) -> Images:
        inputs = _field(document, "inputs", list, LIST)
        if len(inputs) != 1:
            raise malformed(f"there are {len(inputs)} inputs; send one")
        found = _checked(inputs[0], INPUT_FIELDS, "an input")
        parameters = _field(found, "parameters", dict, OBJECT)
        encoded, size = is_base64(parameters), parameters.get(SIZE)
        tensor = InputTensor(found.get("name"), found.get("datatype"), found.get("shape"), encoded)
        if size is None:
            if binary:
                raise malformed(f"{len(binary)} bytes after the JSON, and no input has a {SIZE}")
            # In JSON the elements of BYTES are base64, whatever the parameters say.
            return self._inputs.values(tensor, found.get("data"))
        if "data" in found:
            raise malformed(f"an input has both data and {SIZE}")
        if type(size) is not int or size != len(binary):
            raise malformed(
                f"{SIZE} is {size if type(size) is int else shown(size)}, and {len(binary)} bytes "
                "follow the JSON"
            )
        return self._inputs.raw(tensor, binary)


def json_bytes(length: bytes | None, size: int) -> int:
    """Return the number of bytes of the JSON at the start of a body of so many bytes.

    Args:
        length: Header `Inference-Header-Content-Length`, or `None`: the whole body is JSON.
        size: Bytes of the body.

    Raises:
        MalformedBodyError: The header is no length within the body.
    """
    if length is None:
        return size
    digits = length.strip(b" \t")
    if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS or int(digits) > size:
        header = ascii(digits[:MAX_LENGTH_DIGITS].decode("latin-1"))
        raise malformed(f"{LENGTH.decode()}: {header} is no length in a body of {size} bytes")
    return int(digits)


def _exceeds(json: bytes, mark: bytes, limit: int) -> bool:
    """Return whether JSON has a mark more than `limit` times."""
    if len(json) <= limit:
        return False
    return json.count(mark) > limit if limit > 1 << 12 else has_more(json, mark, limit)


def _checked(value: object, fields: tuple[str, ...], name: str) -> Data:
    if not isinstance(value, dict):
        raise malformed(f"{name} is not an object")
    for field in value:
        if field not in fields:
            raise malformed(f"{name} has no field {shown(field)}; it has {', '.join(fields)}")
    return value


def _field(document: Data, name: str, kind: type[V], described: str) -> V:
    """Return the value of a field. It is empty if the field is missing or null."""
    value = document.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise malformed(f"{name}: not {described}")
    return value


def _named(output: object) -> tuple[object, Mapping[str, object]]:
    found = _checked(output, OUTPUT_FIELDS, "an output")
    return found.get("name"), _field(found, "parameters", dict, OBJECT)


def _id(document: Data) -> str:
    found = _field(document, "id", str, ID)
    if len(found) > MAX_ID:
        raise malformed(f"id: not {ID}")
    return found
