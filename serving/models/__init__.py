"""The models of a server: the folder that they are in, what is to be loaded, and what is."""
