"""Benchmarks of training on photos."""
