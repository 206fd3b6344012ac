"""The export of spans over OTLP (gRPC), in batches on a thread of its own.

The exporter also reads the standard variables, such as `OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from threading import Thread

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from offramp import __version__
from offramp.bundle.manifest import Manifest
from serving.http.tracing.spans import SpanBuilder
from serving.http.tracing.trace import End, Trace

MAX_QUEUED = 2048  # spans. While the receiver is slow or gone, the oldest are dropped.
EXPORT_SPANS = 128  # in one message: it is encoded in a few milliseconds
EXPORT_SECONDS = 1.0  # between two messages
TIMEOUT = 5.0  # seconds for one message, with its repetitions
FLUSH_SECONDS = 1.0  # for the last message, at shutdown


class OtlpRecorder:
    """Makes spans and exports them.

    Args:
        endpoint: URL of a receiver of OTLP over gRPC, `https` with TLS.
        manifest: The bundle that is served.
    """

    def __init__(self, endpoint: str, manifest: Manifest) -> None:
        self._builder = SpanBuilder(
            _resource_of(manifest), InstrumentationScope("offramp", __version__)
        )
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=endpoint, timeout=TIMEOUT),
            max_queue_size=MAX_QUEUED,
            schedule_delay_millis=EXPORT_SECONDS * 1e3,
            max_export_batch_size=EXPORT_SPANS,
        )

    def record(self, trace: Trace, end: End) -> None:
        """Make the spans of a request, and queue them for export."""
        for span in self._builder.build(trace, end):
            self._processor.on_end(span)

    async def close(self) -> None:
        """Export what is queued, for `FLUSH_SECONDS` at most.

        The thread is a daemon: a receiver that does not answer keeps no server.
        """
        loop, flushed = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(flushed.set)

        Thread(target=flush, name="last-spans", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(flushed.wait(), FLUSH_SECONDS)


def _resource_of(manifest: Manifest) -> Resource:
    """Return the attributes of this process. Those of the environment win."""
    ours: dict[str, str | int] = {
        "service.name": "offramp",
        "service.version": __version__,
        "process.pid": os.getpid(),
        "offramp.model.name": manifest.name,
        "offramp.model.version": manifest.version,
    }
    return Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())
