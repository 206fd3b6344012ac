"""A server of gRPC's Python library that answers at once, without a network.

    python -m benchmarks.serving.oip.bare_grpc aio
    python -m benchmarks.serving.oip.bare_grpc threads

`aio` receives the message as our server does. `threads` is the library's other server, with a
thread for each call. It prints its port. `benchmarks.serving.oip.throughput` measures both: no
server that uses the library can spend less on a call.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import uvloop

from offramp.load.connection import HOST

RESPONSE = bytes(350)  # as many as a response of ten classes has
SERVICE = "inference.GRPCInferenceService"
CALLS = 32  # in progress


async def _answer(_: object, call: grpc.aio.ServicerContext) -> bytes:
    await call.read()
    return RESPONSE


def _handler(method: grpc.RpcMethodHandler) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})


async def serve_aio() -> None:
    """Serve on an event loop until the process is terminated."""
    method = grpc.stream_unary_rpc_method_handler(_answer)
    server = grpc.aio.server(handlers=[_handler(method)])
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def serve_threads() -> None:
    """Serve on threads until the process is terminated."""
    method = grpc.unary_unary_rpc_method_handler(lambda *_: RESPONSE)
    server = grpc.server(ThreadPoolExecutor(CALLS), handlers=[_handler(method)])
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "aio":
        uvloop.run(serve_aio())
    else:
        serve_threads()
