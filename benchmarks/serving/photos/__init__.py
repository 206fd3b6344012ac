"""Photos of several sizes against mosec, with the CPU time of an answer by its parts."""
