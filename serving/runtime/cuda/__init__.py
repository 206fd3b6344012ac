"""Stages on CUDA: their sessions, their graphs, and slots whose features stay on the device."""
