"""Multi-exit networks, trained with Deep Feature Surgery."""
