"""Deep Feature Surgery: choose which channels each exit trains."""
