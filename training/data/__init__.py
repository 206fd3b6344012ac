"""Data sets: read, decode and augment images, and collect them into batches."""
