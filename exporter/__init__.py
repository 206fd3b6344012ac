"""From a checkpoint to a bundle: one ONNX graph for each stage, verified and calibrated."""
