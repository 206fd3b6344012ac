"""Calls of the service, with messages or with bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from serving.grpc.stubs import open_inference_pb2 as pb
from tests.serving.http.oip.calls import Tensors, elements, values_of

SERVICE = "/inference.GRPCInferenceService/"


def call(channel: grpc.Channel, method: str, message: bytes = b"", **options: Any) -> bytes:
    """Call a method with the bytes of a message."""
    answer = channel.unary_unary(SERVICE + method)(
        message, timeout=30, wait_for_ready=True, **options
    )
    assert isinstance(answer, bytes)
    return answer


def refused(
    channel: grpc.Channel, method: str, message: bytes = b"", **options: Any
) -> tuple[str, str]:
    """Return the status and the text of a call that is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, message, **options)
    return caught.value.code().name, caught.value.details()


def request(
    shape: Sequence[int], datatype: str = "BYTES", model: str = "testnet", **parameters: Any
) -> Any:
    """Return a request with the head of an input and parameters."""
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name="image", datatype=datatype, shape=shape)
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    for name, value in parameters.items():
        setattr(made.parameters[name], kinds[type(value)], value)
    return made


def with_files(files: Sequence[bytes], **options: Any) -> Any:
    """Return a request with image files in raw bytes."""
    made = request([len(files)], **options)
    made.raw_input_contents.append(elements(files))
    return made


def infer(channel: grpc.Channel, message: Any, **options: Any) -> Tensors:
    """Return the outputs of a request by name."""
    sent = message if isinstance(message, bytes) else message.SerializeToString()
    response = pb.ModelInferResponse.FromString(call(channel, "ModelInfer", sent, **options))
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        each.name: np.reshape(values_of(each.datatype, raw), tuple(each.shape))
        for each, raw in pairs
    }
