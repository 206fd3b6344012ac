"""The gRPC server stops with HTTP. `tests/serving/processes` has the workers."""

from __future__ import annotations

from pathlib import Path

import grpc

from tests.serving.grpc.calls import SERVICE, with_files
from tests.serving.servers import GatedRuntime, WaitUntil, serving
from tests.serving.small_bundle import png, random_images


def status(channel: grpc.Channel) -> str:
    """Return the status of a call."""
    try:
        channel.unary_unary(f"{SERVICE}ServerLive")(b"", timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_a_call_under_way_is_answered_at_shutdown_and_no_other_is_taken(
    bundle: Path, gated: GatedRuntime, wait_until: WaitUntil
) -> None:
    sent = with_files([png(image) for image in random_images(2, 3)]).SerializeToString()
    with serving(bundle, grpc_port=0) as server:
        server.gate(gated)
        gated.shut(0)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            future = channel.unary_unary(f"{SERVICE}ModelInfer").future(sent)
            wait_until(gated.entered[0].is_set)
            server.stop()
            wait_until(lambda: status(channel) == "UNAVAILABLE")
            gated.open()
            assert len(future.result(30)) > 100
