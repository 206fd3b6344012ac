"""Change the models of a server under load, and count what its clients see."""
