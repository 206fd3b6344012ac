"""The lower half of the dashboard: how fast answers come, and what the servers are doing."""

from __future__ import annotations

from deploy.grafana.panel import (
    ASKED,
    JOB,
    RATE,
    RATIO,
    SECONDS,
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
            "p50 and p99, arrival to answer. All budgets up together: overload, see Slots in use. "
            "One alone: its exits moved deeper.",
            tuple(
                (quantile(share, "request_seconds", "budget", ASKED), f"{{{{budget}}}} {name}")
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ),
        ),
        Panel(
            "Where the time goes, mean",
            SECONDS,
            "Queue on top: add replicas, or lower budgets. Decode: send smaller images. Compute: "
            "see Stage time.",
            ((mean("request_part_seconds", "part"), "{{part}}"),),
            kind="stacked",
        ),
        Panel(
            "Queue, decode and compute, p50 and p99",
            SECONDS,
            "A part whose p99 leaves its p50 far behind makes the slow answers: decode by large "
            "images, queue by bursts, compute by a shared device.",
            tuple(
                (quantile(share, "request_part_seconds", "part", JOB), f"{{{{part}}}} {name}")
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
            "Answers in a second. A budget that vanishes: its client is gone, or is refused.",
            ((rate("exits_total", "budget"), "{{budget}}"),),
            8,
            "stacked",
        ),
        Panel(
            "Requests by outcome",
            "reqps",
            "refused, degraded (answered early): overload, add replicas. deadline and expired: too "
            "little time for the depth asked. failed: read the log. cancelled: clients hang up, "
            "often their own time-out.",
            ((rate("requests_total", "outcome"), "{{outcome}}"),),
            8,
            "stacked",
        ),
        Panel(
            "Error answers by problem",
            "reqps",
            "The problem types of the API. pool-full: overload. stage-failed, internal: the log. "
            "All others: the client's fault, and the answer tells it what to change.",
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
            "Near 1 under load: too little traffic to batch, or max_batch is 1. At max_batch all "
            "the time: the device is full. Stage all: batches that run all stages as one graph.",
            ((mean("batch_size", "stage"), "stage {{stage}}"),),
            8,
        ),
        Panel(
            "Stage time, mean of a batch",
            SECONDS,
            "Level for a given batch size. Rising at the same size: the device is shared, hot or "
            "throttled.",
            ((mean("stage_seconds", "stage"), "stage {{stage}}"),),
            8,
        ),
        Panel(
            "Slots in use and queue",
            "short",
            "In use at the limit: requests are refused; add replicas, or slots where memory "
            "allows. A queue with slots free is normal.",
            (
                (f"sum(offramp_slots_in_use{{{JOB}}})", "in use"),
                (f"sum(offramp_queue_depth{{{JOB}}})", "waiting for a batch"),
                (f"sum(offramp_slots{{{JOB}}})", "limit"),
            ),
            8,
        ),
        Panel(
            "Cores busy",
            "short",
            "Processor time of the servers. At the cores there are: the CPU is the limit; more "
            "threads will not help.",
            (
                (
                    f"sum by (instance) (rate(process_cpu_seconds_total{{{JOB}}}{RATE}))",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Memory of the servers",
            "bytes",
            "All workers together. Level after the first minutes. Rising for hours: a leak; "
            "restart and report it.",
            ((f"sum by (instance) (process_resident_memory_bytes{{{JOB}}})", "{{instance}}"),),
        ),
    ),
)

GPU = Row(
    "GPU (empty without one)",
    (
        Panel(
            "GPU memory",
            "bytes",
            "Level after the start, for slots lie there. In use near the limit: fewer slots or "
            "workers, a smaller max_batch, or another process shares the device.",
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
            "Low while requests queue: decoding or the CPU holds it back, see Where the time "
            "goes. Near 1 with refusals: add a GPU.",
            ((f"avg by (instance) (offramp_gpu_utilisation_ratio{{{JOB}}})", "{{instance}}"),),
            highest=1.0,
        ),
    ),
)
