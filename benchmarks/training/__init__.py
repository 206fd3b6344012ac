"""Benchmarks of training: accuracy of each objective and cost of a step."""
