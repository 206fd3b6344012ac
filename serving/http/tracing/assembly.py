"""Build the tracing of a server from its settings."""

from __future__ import annotations

from offramp.bundle.manifest import Manifest
from serving.http.tracing.trace import Tracing
from serving.settings import Settings


def build_tracing(settings: Settings, manifest: Manifest | None = None) -> Tracing | None:
    """Return the tracing of a server, or `None` if it has no endpoint for it.

    Args:
        settings: All settings.
        manifest: The bundle, if it is the only one.
    """
    if settings.otlp_endpoint is None:
        return None
    from serving.http.tracing.export import OtlpRecorder  # late: needs the extra tracing

    return Tracing(settings.trace_share, OtlpRecorder(settings.otlp_endpoint, manifest))
