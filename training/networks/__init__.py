"""Multi-exit networks, their confidence and their cost."""
