"""Multiply-adds of a graph for one image, counted on its nodes."""

from exporter.flops.count import count_flops
from exporter.flops.shapes import values_of_black

__all__ = ["count_flops", "values_of_black"]
