"""The engine of the server, in the process of the caller."""
