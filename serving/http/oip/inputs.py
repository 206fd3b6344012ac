"""Read the input `image` of a request: image files, or pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import ImageInput
from serving.http.bodies.body import read_pixels
from serving.http.bodies.json_images import from_base64
from serving.http.oip.protocol import (
    BYTES,
    IMAGE,
    UINT8,
    Images,
    element_length,
    malformed,
    shown,
)

CONTENT_TYPE, BASE64 = "content_type", "base64"  # a parameter of the input, and its only value
SIZE = "binary_data_size"  # of an input. KServe's client sends it over gRPC too.


class InputTensor(NamedTuple):
    """The head of an input.

    Attributes:
        name: Its name.
        datatype: Its datatype.
        shape: Its shape.
        base64: The elements are base64.
    """

    name: object
    datatype: object
    shape: object
    base64: bool


class InputReader:
    """Reads the input `image`.

    Args:
        target: Input of the model.
        max_images: Largest number of images in one call.
    """

    def __init__(self, target: ImageInput, max_images: int) -> None:
        self._target = target
        self.max_images = max_images
        size = [target.height, target.width, 3]
        self._rests: Mapping[object, Sequence[object]] = {BYTES: ([], [1]), UINT8: (size,)}
        self._forms = f"BYTES [N] or [N, 1] (image files) or UINT8 [N, {str(size)[1:-1]}]"
        self.numbers = max_images * target.height * target.width * 3  # of a tensor UINT8, at most

    def count(self, tensor: InputTensor) -> int:
        """Check the head of the input, and return its number of images.

        Raises:
            MalformedBodyError: The name, the datatype or the shape is not that of the input.
        """
        if tensor.name != IMAGE:
            raise malformed(f"there is no input {shown(tensor.name)}; the model has one, {IMAGE!r}")
        kind, shape, forms = tensor.datatype, tensor.shape, self._forms
        if kind not in (BYTES, UINT8):
            raise malformed(f"{IMAGE}: the datatype is {shown(kind)}; send {forms}")
        if not isinstance(shape, list) or not shape or not all(type(each) is int for each in shape):
            raise malformed(f"{IMAGE}: the shape is no list of integers; send {forms}")
        count: int = shape[0]
        if shape[1:] not in self._rests[kind]:
            raise malformed(f"{IMAGE}: {kind} {shape[:8]} is not its shape; send {forms}")
        if not 0 < count <= self.max_images:
            raise malformed(f"{IMAGE}: {count} images; send 1 to {self.max_images}")
        return count

    def raw(self, tensor: InputTensor, data: memoryview) -> Images:
        """Return the images of a binary tensor. Pixels are a view of it.

        Raises:
            MalformedBodyError: The tensor is not of this head.
        """
        count = self.count(tensor)
        if tensor.datatype == UINT8:
            return self._pixels(data, count)
        return self.elements(tensor, elements_of(data, count))

    def elements(self, tensor: InputTensor, elements: Sequence[bytes | memoryview]) -> list[bytes]:
        """Return the images of the elements of a tensor BYTES, as messages of gRPC have them.

        Raises:
            MalformedBodyError: The head is another one, or an element is not base64.
        """
        count = self.count(tensor)
        if tensor.datatype != BYTES:
            raise malformed(f"{IMAGE}: send {tensor.datatype} in raw_input_contents")
        if len(elements) != count:
            raise malformed(f"{IMAGE}: {len(elements)} elements BYTES, and its shape has {count}")
        if not tensor.base64:
            return [bytes(each) for each in elements]
        return self._decoded([str(each, "latin-1") for each in elements])

    def values(self, tensor: InputTensor, data: object) -> Images:
        """Return the images of a tensor in JSON, flat or nested.

        Raises:
            MalformedBodyError: The data are not of this head.
        """
        count = self.count(tensor)
        flat = _flattened(data, cast(list[int], tensor.shape))
        if tensor.datatype == BYTES:
            if len(flat) != count:
                raise malformed(f"{IMAGE}: {len(flat)} elements, and its shape has {count}")
            return self._decoded(flat)
        try:
            pixels = bytes(_integers(flat))  # raises for integers outside 0 to 255
        except ValueError as error:
            raise malformed(f"{IMAGE}: data: not integers from 0 to 255") from error
        return self._pixels(memoryview(pixels), count)

    def _pixels(self, data: memoryview, count: int) -> NDArray[np.uint8]:
        images = read_pixels(data, self._target, self.max_images)
        if len(images) != count:
            raise malformed(
                f"{IMAGE}: {len(images)} images in its bytes, and its shape has {count}"
            )
        return images

    @staticmethod
    def _decoded(texts: Sequence[object]) -> list[bytes]:
        files = []
        for number, text in enumerate(texts):
            try:
                files.append(from_base64(text))
            except ValueError as error:
                raise malformed(f"{IMAGE}: element {number}: {error}; send base64") from None
        return files


def elements_of(data: memoryview, count: int) -> list[memoryview]:
    """Return the elements of a tensor BYTES, views of its bytes.

    Raises:
        MalformedBodyError: The tensor has more elements, fewer, or the length of one is wrong.
    """
    elements, at, size = [], 0, len(data)
    for number in range(count):
        start = at + element_length.size
        if start > size:
            raise malformed(f"{IMAGE}: its bytes end before the length of element {number}")
        at = start + element_length.unpack_from(data, start - element_length.size)[0]
        if at > size:
            raise malformed(
                f"{IMAGE}: element {number} has {at - start} bytes, and {size - start} are left"
            )
        elements.append(data[start:at])
    if at != size:
        raise malformed(f"{IMAGE}: {size - at} bytes after its {count} elements")
    return elements


def _flattened(data: object, shape: list[int]) -> list[object]:
    """Return the items of nested lists. Those that are innermost can hold the rest of the shape."""
    if not isinstance(data, list):
        raise malformed(f"{IMAGE}: data: {shown(data)} is not a list")
    count = 1
    for size in shape[:3]:
        if not (data and isinstance(data[0], list)):
            break
        if not all(isinstance(each, list) for each in data):
            raise malformed(f"{IMAGE}: data: lists beside other values")
        count *= size
        if len(data) != count or len(set(map(len, data))) > 1:
            raise malformed(f"{IMAGE}: data: lists of another shape than {shape}")
        data = [item for each in data for item in each]
    return data


def _integers(items: list[object]) -> list[int]:
    """Return the items.

    Raises:
        ValueError: One is not an integer. `true` is none.
    """
    if not set(map(type, items)) <= {int}:
        raise ValueError("items that are not integers")
    return cast(list[int], items)


def is_base64(parameters: Mapping[str, object]) -> bool:
    """Return whether the parameters of an input say that its elements are base64.

    Raises:
        MalformedBodyError: There is another parameter, or another content type.
    """
    for name in parameters:
        if name not in (CONTENT_TYPE, SIZE):
            raise malformed(f"{IMAGE}: there is no parameter {shown(name)} of an input")
    content_type = parameters.get(CONTENT_TYPE)
    if content_type not in (None, BASE64):
        raise malformed(f"{IMAGE}: {CONTENT_TYPE} is {shown(content_type)}; send {BASE64!r}")
    return content_type is not None
