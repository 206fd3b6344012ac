"""Stages on CUDA: their sessions, their graphs, and slots with features that stay on the device."""
