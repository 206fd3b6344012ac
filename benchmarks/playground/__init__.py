"""The playground in a real browser: what it shows is what the server answers."""
