"""Parquet files with an image and a label in each row."""
