"""Names of the variables that configure a peer, and of the tensors of Triton's model."""

BUNDLE, GRAPH = "BENCH_BUNDLE", "BENCH_GRAPH"
WORKERS = "BENCH_WORKERS"
BATCH, WAIT_MS = "BENCH_BATCH", "BENCH_WAIT_MS"
FILE, ANSWER = "file", "answer"
