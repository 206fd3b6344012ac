"""The calls of the engine: submitted, and departing."""
