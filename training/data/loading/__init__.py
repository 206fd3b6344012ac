"""Processes that decode images for training."""
