"""Start the compared servers as processes."""
