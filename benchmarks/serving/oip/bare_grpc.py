"""A server of gRPC's own Python library that answers at once, without a network.

    python -m benchmarks.serving.oip.bare_grpc

It prints its port. `benchmarks.serving.oip.throughput` measures it: no server that uses the library
can spend less on a call.
"""

from __future__ import annotations

import asyncio

import grpc

RESPONSE = bytes(350)  # as many as a response of ten classes has
SERVICE = "inference.GRPCInferenceService"


async def _answer(_: bytes, __: object) -> bytes:
    return RESPONSE


async def main() -> None:
    """Serve until the process is terminated."""
    method = grpc.unary_unary_rpc_method_handler(_answer)
    handler = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})
    server = grpc.aio.server(handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
