"""Export of a network of torch: its stages as ONNX graphs, verified against it."""
