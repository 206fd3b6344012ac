"""The start of an engine: its parts are put together, warmed up and measured."""
