"""Benchmarks of promises: how often they hold, as certified, as served, and as audited."""
