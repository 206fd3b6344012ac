"""Names in a peer's environment, by which it is told what to serve and how."""

BUNDLE, GRAPH = "BENCH_BUNDLE", "BENCH_GRAPH"
WORKERS = "BENCH_WORKERS"
BATCH, WAIT_MS = "BENCH_BATCH", "BENCH_WAIT_MS"
