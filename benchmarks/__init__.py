"""Benchmarks, one command each. Every command measures one thing and prints one table."""

import os

# ONNX Runtime 1.29 and newer send telemetry unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
