"""Other servers with the same weights, each in its own style and at its own best settings."""
