"""Steps for a machine that has a GPU for a short time. Each has a limit, and keeps what is done."""
