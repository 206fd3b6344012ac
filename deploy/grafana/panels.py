"""What the dashboard shows: a panel says in which unit, and what to do when it looks wrong.

Expressions sum over workers and replicas, so they hold for one process as for many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RATE = "[$__rate_interval]"
JOB = 'job=~"$job"'
ASKED = f'{JOB},budget=~"$budget"'
FLOPS, RATIO, SECONDS = "si: flops", "percentunit", "s"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        advice: what to do when it looks wrong.
        queries: each an expression in PromQL and the name of its series.
        width: of the dashboard's 24 columns.
        limits: where it turns yellow, and red.
        repeat: draw it for each budget.
    """

    title: str
    unit: str
    advice: str
    queries: tuple[tuple[str, str], ...]
    width: int = 12
    kind: Literal["lines", "stacked", "number"] = "lines"
    limits: tuple[float, float] | None = None
    highest: float | None = None
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", where: str = ASKED) -> str:
    """A counter's growth in a second, summed."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(offramp_{metric}{{{where}}}{RATE}))"


def quantile(share: float, metric: str, by: str, where: str) -> str:
    """A quantile of a histogram for each value of a label."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}, le', where)})"


def mean(metric: str, by: str, where: str = JOB) -> str:
    """The mean of a histogram for each value of a label."""
    return f"{rate(f'{metric}_sum', by, where)} / {rate(f'{metric}_count', by, where)}"


def saved(by: str = "") -> str:
    """The share of full depth's flops that early exits did not spend."""
    return f"1 - {rate('flops_spent_total', by)} / {rate('flops_full_total', by)}"


def outcomes(names: str) -> str:
    """The share of requests that ended so; cancelled ones are nobody's fault."""
    ended, all_ = f'{ASKED},outcome=~"{names}"', f'{ASKED},outcome!="cancelled"'
    return f"{rate('requests_total', where=ended)} / {rate('requests_total', where=all_)}"


GLANCE = Row(
    "At a glance",
    (
        Panel(
            "Answers",
            "reqps",
            "Images answered in a second. Zero with clients about: look at Servers up, then at "
            "Requests by outcome.",
            ((rate("exits_total"), "answers"),),
            4,
            "number",
        ),
        Panel(
            "Flops saved",
            RATIO,
            "Of what full depth would have spent. Falling: see which budgets clients ask for and "
            "whether exits drift; budget=full saves nothing.",
            ((saved(), "saved"),),
            4,
            "number",
        ),
        Panel(
            "Largest drift of exits",
            RATIO,
            "Distance of the exits taken from those the bundle promises. Red: inputs no longer "
            "look like the calibration images; see Drift of exits.",
            ((f"max(budget:offramp_exit_drift:rate10m{{{ASKED}}})", "drift"),),
            4,
            "number",
            (0.05, 0.1),
        ),
        Panel(
            "Latency, p99",
            SECONDS,
            "Arrival to answer. Red: see Where the time goes; mostly queue means more replicas or "
            "smaller budgets, mostly compute a busy device.",
            ((f"histogram_quantile(0.99, {rate('request_seconds_bucket', 'le')})", "p99"),),
            4,
            "number",
            (0.25, 0.5),
        ),
        Panel(
            "Refused or failed",
            RATIO,
            "Of all requests. Refused: add replicas or slots. Failed: the server's log has the "
            "traceback.",
            ((outcomes("refused|failed|expired"), "refused or failed"),),
            4,
            "number",
            (0.001, 0.01),
        ),
        Panel(
            "Servers up",
            "short",
            "Servers that Prometheus reaches. Fewer than you started: see `docker compose ps` or "
            "`kubectl get pods`, and the log of the one that is missing.",
            ((f"sum(up{{{JOB}}})", "up"),),
            4,
            "number",
        ),
    ),
)

SHARES = f"{rate('exits_total', 'exit')} / scalar({rate('exits_total')})"
EXITS = Row(
    "Exits",
    (
        Panel(
            "Exits taken, budget $budget",
            RATIO,
            "Shares of answers by exit. A band that grows at the deep end means harder images or "
            "a dearer budget: compare with the next row.",
            ((SHARES, "exit {{exit}}"),),
            24,
            "stacked",
            highest=1.0,
            repeat=True,
        ),
        Panel(
            "Seen (line) and expected (dashed), budget $budget",
            RATIO,
            "Each line should lie on its dashed one. Apart for long: solve the thresholds again on "
            "images of today (`python -m exporter`). numeric and min_confidence promise nothing.",
            (
                (SHARES, "exit {{exit}}"),
                (
                    f"max by (exit) (offramp_exit_share_expected{{{ASKED}}})",
                    "exit {{exit}} expected",
                ),
            ),
            24,
            highest=1.0,
            repeat=True,
        ),
        Panel(
            "Drift of exits",
            RATIO,
            "Total variation distance of the last 10 minutes from the manifest: 0 the same, 1 "
            "apart. Above 0.1: look at what clients send (blur, noise, another camera), check "
            "accuracy on a labelled sample, then calibrate anew.",
            ((f"max by (budget) (budget:offramp_exit_drift:rate10m{{{ASKED}}})", "{{budget}}"),),
            limits=(0.05, 0.1),
        ),
        Panel(
            "Confidence at the exit taken, median",
            RATIO,
            "Should stay level. Sinking at every exit: unfamiliar images; sinking at the last "
            "alone: more of the hard ones.",
            ((quantile(0.5, "confidence", "exit", JOB), "exit {{exit}}"),),
            highest=1.0,
        ),
    ),
)

COST = Row(
    "What it costs and saves",
    (
        Panel(
            "Mean flops of an answer (line) and promised (dashed)",
            FLOPS,
            "A budget above its dashed line breaks its promise: its exits drift, or the bundle's "
            "thresholds were solved on easier images.",
            (
                (
                    f"{rate('flops_spent_total', 'budget')} / {rate('exits_total', 'budget')}",
                    "{{budget}}",
                ),
                (f"max by (budget) (offramp_flops_expected{{{ASKED}}})", "{{budget}} expected"),
            ),
        ),
        Panel(
            "Flops spent against full depth",
            "si: flops/s",
            "The gap is what early exits save. Closing: see Flops saved by budget for who asks "
            "for depth.",
            (
                (rate("flops_spent_total"), "spent"),
                (rate("flops_full_total"), "full depth"),
            ),
        ),
        Panel(
            "Flops saved by budget",
            RATIO,
            "Should match what the bundle's budgets.svg says. Lower: drift; none at all: "
            "budget=full, or min_confidence near 1.",
            ((saved("budget"), "{{budget}}"),),
            24,
            highest=1.0,
        ),
    ),
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
            "refused: no slot, add replicas. deadline, degraded and expired: too little time for "
            "the depth asked. failed: read the log. cancelled: clients hang up, often their own "
            "time-out.",
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
            "the time: the device is full.",
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
            "Level after the first minutes. Rising for hours: a leak; restart and report it.",
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
            "In use near the limit: fewer slots or a smaller max_batch, or another process "
            "shares the device.",
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
ROWS = (GLANCE, EXITS, COST, LATENCY, TRAFFIC, ENGINE, GPU)
