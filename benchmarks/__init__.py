"""Benchmarks: each answers one question, prints one table, is run by one command."""

import os

# ONNX Runtime 1.29 and newer report to their maker, unless told not to before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
