"""Export a checkpoint as a bundle: one ONNX graph for each stage, verified and calibrated."""

import os

# ONNX Runtime 1.29 and newer send telemetry unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
