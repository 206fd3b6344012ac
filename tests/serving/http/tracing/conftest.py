"""Without the extra `tracing` only sampling and headers are tested."""

from importlib.util import find_spec

EXTRA = "opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "grpc"
collect_ignore_glob = [] if all(map(find_spec, EXTRA)) else ["test_otlp.py"]
