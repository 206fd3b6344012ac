"""Readers of the images in a body, one for each content type with several images."""
