"""Benchmarks of the path of operating points, by cross-validation."""
