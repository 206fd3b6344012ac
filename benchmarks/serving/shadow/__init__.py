"""Measure what copies of requests to another version cost."""
