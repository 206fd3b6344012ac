"""Benchmarks of the engine and its stages in one process, without HTTP."""
