"""Measure what exits and thresholds give on images with known labels."""
