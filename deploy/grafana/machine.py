"""Define the lower rows of the dashboard: latency, traffic, engine and GPU."""

from __future__ import annotations

from deploy.grafana.panel import (
    JOB,
    MODEL,
    RATE,
    RATIO,
    SECONDS,
    SELECTED,
    Panel,
    Row,
    mean,
    quantile,
    rate,
)

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Latency by budget",
            SECONDS,
            "p50 and p99, arrival to answer. All budgets rise together: overload, see Slots in "
            "use. Only one rises: its exits moved deeper.",
            tuple(
                (quantile(share, "request_seconds", "budget", SELECTED), f"{{{{budget}}}} {name}")
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ),
        ),
        Panel(
            "Where the time goes, mean",
            SECONDS,
            "Queue is largest: add replicas, or use lower budgets. Decode: send smaller images. "
            "Compute: see Stage time.",
            ((mean("request_part_seconds", "part"), "{{part}}"),),
            kind="stacked",
        ),
        Panel(
            "Queue, decode and compute, p50 and p99",
            SECONDS,
            "A part with a p99 far above its p50 causes the slow answers: decode by large images, "
            "queue by bursts, compute by a shared device.",
            tuple(
                (quantile(share, "request_part_seconds", "part", MODEL), f"{{{{part}}}} {name}")
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            24,
        ),
    ),
)

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Throughput by budget",
            "reqps",
            "Answers per second. If a budget disappears, its client stopped or is refused.",
            ((rate("exits_total", "budget"), "{{budget}}"),),
            8,
            "stacked",
        ),
        Panel(
            "Requests by outcome",
            "reqps",
            "refused, degraded (answered early): overload, add replicas. deadline and expired: "
            "too little time for the requested depth. failed: read the log. cancelled: clients "
            "disconnect, often at their own timeout.",
            ((rate("requests_total", "outcome"), "{{outcome}}"),),
            8,
            "stacked",
        ),
        Panel(
            "Error answers by problem",
            "reqps",
            "The problem types of the API. pool-full: overload. stage-failed, internal: read the "
            "log. All others: the client's request is wrong, and the response tells the client "
            "what to change.",
            ((rate("problems_total", "type", JOB), "{{type}}"),),
            8,
            "stacked",
        ),
    ),
)

ENGINE = Row(
    "Engine",
    (
        Panel(
            "Batch size by stage, mean",
            "short",
            "Near 1 under load: too little traffic for batches, or max_batch is 1. Always at "
            "max_batch: the device is full. Stage all: batches that run all stages as one graph.",
            ((mean("batch_size", "stage"), "stage {{stage}}"),),
            8,
        ),
        Panel(
            "Stage time, mean of a batch",
            SECONDS,
            "Constant for a given batch size. Rising at the same size: the device is shared, hot "
            "or throttled.",
            ((mean("stage_seconds", "stage"), "stage {{stage}}"),),
            8,
        ),
        Panel(
            "Slots in use and queue",
            "short",
            "In use at the limit: requests are refused. Add replicas, or slots if memory allows. "
            "A queue with free slots is normal.",
            (
                (f"sum(offramp_slots_in_use{{{MODEL}}})", "in use"),
                (f"sum(offramp_queue_depth{{{MODEL}}})", "waiting for a batch"),
                (f"sum(offramp_slots{{{MODEL}}})", "limit"),
            ),
            8,
        ),
        Panel(
            "Cores busy",
            "short",
            "Processor time of the servers. Equal to the number of cores: the CPU is the limit, "
            "and more threads do not help.",
            (
                (
                    f"sum by (instance) (rate(process_cpu_seconds_total{{{JOB}}}{RATE}))",
                    "{{instance}}",
                ),
            ),
            8,
        ),
        Panel(
            "Memory of the servers",
            "bytes",
            "All workers together. Constant after the first minutes. Rising for hours: a leak. "
            "Restart the server and report it.",
            ((f"sum by (instance) (process_resident_memory_bytes{{{JOB}}})", "{{instance}}"),),
            8,
        ),
        Panel(
            "Energy of an answer",
            "joule",
            "Energy of processors and GPUs, of all their processes, for each answer. It rises at "
            "low load, because idle devices use energy too. Empty where nothing counts it.",
            (
                (
                    f"{rate('energy_joules_total', where=JOB)} / {rate('exits_total', where=JOB)}",
                    "joules",
                ),
            ),
            8,
        ),
    ),
)

GPU = Row(
    "GPU (empty without one)",
    (
        Panel(
            "GPU memory",
            "bytes",
            "Constant after the start, because it holds the slots. Near the limit: use fewer "
            "slots or workers or a smaller max_batch, or another process uses the device.",
            (
                (f"sum by (instance) (offramp_gpu_memory_used_bytes{{{JOB}}})", "{{instance}}"),
                (
                    f"sum by (instance) (offramp_gpu_memory_size_bytes{{{JOB}}})",
                    "{{instance}} limit",
                ),
            ),
        ),
        Panel(
            "GPU utilisation",
            RATIO,
            "Low while requests queue: decoding or the CPU is the limit, see Where the time goes. "
            "Near 1 with refusals: add a GPU.",
            ((f"avg by (instance) (offramp_gpu_utilisation_ratio{{{JOB}}})", "{{instance}}"),),
            highest=1.0,
        ),
    ),
)
