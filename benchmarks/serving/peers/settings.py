"""Names of the variables that configure a peer."""

BUNDLE, GRAPH = "BENCH_BUNDLE", "BENCH_GRAPH"
WORKERS = "BENCH_WORKERS"
BATCH, WAIT_MS = "BENCH_BATCH", "BENCH_WAIT_MS"
