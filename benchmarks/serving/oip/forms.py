"""The same image as a request of each door: native API, protocol over HTTP, protocol over gRPC."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offramp.bundle.manifest import ImageInput
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.images.decoder import decode

JPEG, PIXELS = "jpeg", "pixels"
PIXEL_TYPE = "application/vnd.offramp.uint8"
MAX_PIXELS = 25_000_000
LENGTH = "Inference-Header-Content-Length"
DIGITS = 8  # of a size in JSON, so that every request has JSON of the same length


@dataclass(frozen=True, slots=True)
class Bodies:
    """Requests of one door, one for each image.

    Attributes:
        bodies: Their bodies, or messages of gRPC.
        headers: Header fields of each.
        query: Raw query of each.
    """

    bodies: Sequence[bytes]
    headers: Mapping[str, str]
    query: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """An image as a tensor.

    Attributes:
        datatype: Its datatype.
        shape: Its shape.
        data: Its bytes.
    """

    datatype: str
    shape: Sequence[int]
    data: bytes


@dataclass(frozen=True, slots=True)
class Forms:
    """Images in one form.

    Attributes:
        images: Image files, or pixels.
        tensors: The same as tensors.
        media_type: Their content type.
        budget: Budget of each request.
    """

    images: Sequence[bytes]
    tensors: Sequence[Tensor]
    media_type: str
    budget: str

    def native(self) -> Bodies:
        """Return raw bodies of the native API."""
        return Bodies(self.images, {"Content-Type": self.media_type}, f"?budget={self.budget}")

    def http(self) -> Bodies:
        """Return binary tensors, whose outputs are binary too."""
        found = [self._binary(each) for each in self.tensors]
        length = {LENGTH: str(len(found[0]) - len(self.tensors[0].data))}
        return Bodies(found, {"Content-Type": "application/octet-stream", **length}, "")

    def grpc(self, model: str) -> Bodies:
        """Return messages `ModelInferRequest`."""
        return Bodies([self._message(model, each) for each in self.tensors], {}, "")

    def _binary(self, tensor: Tensor) -> bytes:
        size = f"{len(tensor.data):{DIGITS}}"
        json_ = (
            f'{{"parameters":{{"binary_data_output":true,"budget":"{self.budget}"}},"inputs":'
            f'[{{"name":"image","shape":{[*tensor.shape]},"datatype":"{tensor.datatype}",'
            f'"parameters":{{"binary_data_size":{size}}}}}]}}'
        )
        return json_.encode() + tensor.data

    def _message(self, model: str, tensor: Tensor) -> bytes:
        message = pb.ModelInferRequest(model_name=model, raw_input_contents=[tensor.data])
        message.inputs.add(name="image", datatype=tensor.datatype, shape=tensor.shape)
        message.parameters["budget"].string_param = self.budget
        return bytes(message.SerializeToString())


def forms_of(files: Sequence[bytes], form: str, target: ImageInput, budget: str) -> Forms:
    """Return images in a form: as files, or as pixels of the size of the network."""
    if form == JPEG:
        tensors = [Tensor("BYTES", [1], struct.pack("<I", len(each)) + each) for each in files]
        return Forms(files, tensors, "image/jpeg", budget)
    pixels = [decode(each, target, MAX_PIXELS).tobytes() for each in files]
    shape = [1, target.height, target.width, 3]
    return Forms(pixels, [Tensor("UINT8", shape, each) for each in pixels], PIXEL_TYPE, budget)
