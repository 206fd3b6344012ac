"""The evidence for and against each objective, in one command."""
