"""Commands of `offramp` that are in no other package."""
