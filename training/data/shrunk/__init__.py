"""A cache of shrunk images, for photos that are far larger than the input of the network."""
