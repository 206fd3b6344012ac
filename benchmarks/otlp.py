"""A receiver of traces (OTLP over gRPC) on loopback, as a collector has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


@contextmanager
def receiving(take: Callable[[Any, Any], None]) -> Iterator[str]:
    """Run a receiver, and yield its URL.

    Args:
        take: Called with each span that arrives, and with the resource that it is of.
    """

    def export(request: Any, _: object) -> Any:  # noqa: ANN401 (messages have no types)
        for each in request.resource_spans:
            for scope in each.scope_spans:
                for span in scope.spans:
                    take(span, each.resource)
        return pb.ExportTraceServiceResponse()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=pb.ExportTraceServiceRequest.FromString,
        response_serializer=pb.ExportTraceServiceResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(SERVICE, {"Export": method})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
