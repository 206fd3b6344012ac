"""Run copies of answered requests in free slots, and audit answers with them."""
