"""A run of training, as the command runs it."""
