"""Start and replace server processes."""
