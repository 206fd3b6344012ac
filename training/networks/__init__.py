"""Multi-exit networks, their confidences and their costs."""
