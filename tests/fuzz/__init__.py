"""Fuzzing of a real server."""
