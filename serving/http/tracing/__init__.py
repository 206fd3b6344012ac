"""Traces of requests, as spans of OpenTelemetry. Off without `otlp_endpoint`.

A sampled request collects times on its way. Its spans are made from them after its response.

- `parent`: the headers `traceparent` and `tracestate` (W3C Trace Context).
- `trace`: sampling, and what a sampled request collects.
- `endpoint`: the traces of requests that take the normal path.
- `spans`: the spans of a request. Needs the extra `tracing`.
- `export`: the export over OTLP. Needs the extra `tracing`.
- `assembly`: builds all of it from the settings.
"""
