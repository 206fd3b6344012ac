"""An inference is received and read without delay for other requests."""

from __future__ import annotations

import threading

import grpc
import pytest

from serving.http.oip.inputs import InputReader
from tests.serving.grpc.calls import refused, with_files


def test_much_base64_is_decoded_on_a_thread(
    channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def decoded(_: object) -> list[bytes]:
        threads.append(threading.current_thread().name)
        return [b"?"]

    monkeypatch.setattr(InputReader, "_decoded", staticmethod(decoded))
    message = with_files([b"A" * (1 << 19)])
    message.inputs[0].parameters["content_type"].string_param = "base64"
    assert "is not a" in refused(channel, "ModelInfer", message.SerializeToString())[1]
    assert threads == ["bodies_0"]
