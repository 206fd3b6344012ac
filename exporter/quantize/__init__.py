"""Bundles in fewer bits: 8-bit integers for CPUs, 16-bit floats for GPUs."""

from typing import Literal

Precision = Literal["int8", "fp16"]
