"""Send requests to a server and record the responses."""
