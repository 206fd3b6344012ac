"""Cascades: a bundle made of several networks with the same labels, without training and torch."""
