"""Early-exit inference: each request says what its answer may cost."""
