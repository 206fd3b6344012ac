"""Data sets on disk: folders of classes, tables and parquet files. Imports no torch.

The rules are in `docs/data.md`. The structure of a folder decides, and file names do not.
"""
