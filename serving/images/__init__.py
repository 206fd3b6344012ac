"""Decode images and bring them to the size that the network takes."""
