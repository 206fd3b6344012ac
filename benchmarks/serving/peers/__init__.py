"""Run the same weights in other servers, each in its usual style and at its best settings."""
