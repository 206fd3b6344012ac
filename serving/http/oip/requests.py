"""Read a request for inference: JSON, which binary tensors can follow.

JSON without binary tensors has the images as base64 or as numbers. Its characters are counted
before it is parsed, as those of the native API are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from serving.http.bodies.json_document import parse_json
from serving.http.bodies.json_images import MARKS, has_more
from serving.http.oip.inputs import SIZE, InputReader, InputTensor, is_base64
from serving.http.oip.parameters import Asked, ParameterReader, read_parameters
from serving.http.oip.protocol import (
    MAX_ID,
    Images,
    InferRequest,
    malformed,
    read_outputs,
    shown,
)
from serving.http.oip.templates import MAX_CACHED_BYTES, Template, TemplateCache

LENGTH = b"inference-header-content-length"  # header: bytes of the JSON before binary tensors
MAX_LENGTH_DIGITS = 20
MAX_JSON_BYTES = 1 << 16  # of JSON that binary tensors follow
SPARE_MARKS = 512  # besides 4 for each image: outputs and parameters
BINARY_OUTPUT = "binary_data_output"
VERSION = "model_version"
# The model's name and version are in the URL. Some clients repeat them.
FIELDS = ("id", "parameters", "inputs", "outputs", "model_name", VERSION)
INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
OUTPUT_FIELDS = ("name", "parameters")
FIRST_ID = re.compile(rb'{"id": ?"([\w.-]{1,128})"')  # without an escape
Data = dict[str, Any]


class RequestReader:
    """Reads requests for inference.

    Args:
        inputs: Reader of the input.
        parameters: Reader of parameters.
        version: Version of the model.
    """

    def __init__(self, inputs: InputReader, parameters: ParameterReader, version: str) -> None:
        self._inputs = inputs
        self._parameters = parameters
        self._version = version
        self._templates = TemplateCache()
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
            parsed = self._parameters.resolve(Asked(query, None))
            return InferRequest("", [body], parsed, read_outputs((), parsed.query, binary=False))
        if size == len(body):
            return self._read_json(body, query)
        return self._read_binary(body, size, query)

    def _read_json(self, body: bytes, query: bytes) -> InferRequest:
        document = self._document(body, self._limits)
        template, name = self._template(document, query), _id(document)
        parsed = self._parameters.resolve(template.asked)
        outputs = template.outputs(parsed.query)
        if template.size is not None:
            images = self._raw(template, memoryview(b""))
        else:  # the elements of BYTES are base64, whatever the parameters say
            images = self._inputs.values(template.tensor, _only_input(document).get("data"))
        return InferRequest(name, images, parsed, outputs)

    def _read_binary(self, body: bytes, size: int, query: bytes) -> InferRequest:
        """Read a request whose JSON has `size` bytes. JSON that came before is not parsed."""
        if size > MAX_JSON_BYTES:
            raise malformed(f"{size} bytes of JSON before binary data; send {MAX_JSON_BYTES}")
        first, rest = _split_id(body[:size])
        key, name = (rest, query), first
        template = self._templates.find(key)
        if template is None:
            document = self._document(body[:size], self._binary_limits)
            template, name = self._template(document, query), _id(document)
        parsed = self._parameters.resolve(template.asked)
        outputs = template.outputs(parsed.query)
        images = self._raw(template, memoryview(body)[size:])
        if not template.kept and name == first and size + len(query) <= MAX_CACHED_BYTES:
            self._templates.keep(key, template)
        return InferRequest(name, images, parsed, outputs)

    def _raw(self, template: Template, binary: memoryview) -> Images:
        if template.size is None:
            raise malformed(f"{len(binary)} bytes after the JSON, and no input has a {SIZE}")
        if template.size != len(binary):
            raise malformed(f"{SIZE} is {template.size}, and {len(binary)} bytes follow the JSON")
        return self._inputs.raw(template.tensor, binary)

    def _document(self, json: bytes, limits: Mapping[bytes, int]) -> Data:
        """Parse JSON that has each mark at most so many times."""
        for mark, limit in limits.items():
            if _exceeds(json, mark, limit):
                raise malformed(f"the JSON has more than {limit} {MARKS[mark]}")
        try:
            document = parse_json(json)
        except (ValueError, RecursionError) as error:
            raise malformed(f"invalid JSON: {error}") from None
        return _checked(document, FIELDS, "the request")

    def _template(self, document: Data, query: bytes) -> Template:
        """Return a request without its id and its images."""
        version = document.get(VERSION)
        if isinstance(version, int) and not isinstance(version, bool):
            version = str(version)  # as of a load
        if version not in (None, "", self._version):
            text = f"{self._version!r} answers here, not {shown(document[VERSION])}"
            raise malformed(f"{VERSION}: {text}; name the version in the path")
        parameters = _mapping(document, "parameters")
        asked = read_parameters(query, parameters)
        binary = parameters.get(BINARY_OUTPUT, False)
        if not isinstance(binary, bool):
            raise malformed(f"parameters: {BINARY_OUTPUT} is true or false")
        named = [_named(each) for each in _list(document, "outputs")]
        found = _only_input(document)
        own = _mapping(found, "parameters")
        encoded, size = is_base64(own), own.get(SIZE)
        tensor = InputTensor(found.get("name"), found.get("datatype"), found.get("shape"), encoded)
        if size is not None:
            if "data" in found:
                raise malformed(f"an input has both data and {SIZE}")
            if type(size) is not int:
                raise malformed(f"{SIZE} is {shown(size)}, not a number of bytes")
        return Template(tensor, asked, named, binary, size)


def _split_id(json: bytes) -> tuple[str, bytes]:
    """Return the id that JSON begins with, as clients of Triton write it, and the rest of it.

    Another id is part of the rest.
    """
    found = FIRST_ID.match(json)
    return ("", json) if found is None else (found[1].decode(), json[found.end() :])


def _only_input(document: Data) -> Data:
    inputs = _list(document, "inputs")
    if len(inputs) != 1:
        raise malformed(f"there are {len(inputs)} inputs; send one")
    return _checked(inputs[0], INPUT_FIELDS, "an input")


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


def _list(document: Data, name: str) -> list[object]:
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise malformed(f"{name}: not a list")
    return value


def _mapping(document: Data, name: str) -> Mapping[str, object]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed(f"{name}: not an object")
    return value


def _named(output: object) -> tuple[object, Mapping[str, object]]:
    found = _checked(output, OUTPUT_FIELDS, "an output")
    return found.get("name"), _mapping(found, "parameters")


def _id(document: Data) -> str:
    found = document.get("id")
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > MAX_ID:
        raise malformed(f"id: not a string of at most {MAX_ID} characters")
    return found
