"""Run stages with ONNX Runtime, and keep the features between them."""
