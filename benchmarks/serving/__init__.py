"""How much of what the stages save reaches the client, and what other servers make of it."""
