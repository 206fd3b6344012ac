"""The calls of the engine: submitted, under way, and their ends."""
