"""Benchmarks: each answers one question, prints one table, is run by one command."""
