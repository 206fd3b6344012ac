"""JPEG 2000: the headers of a file, and what it costs to decode."""
