"""Define the upper rows of the dashboard: overview, exits and cost. `machine` has the other rows.

Each panel has a unit and advice for unusual values.
"""

from __future__ import annotations

from deploy.grafana.machine import ENGINE, GPU, LATENCY, TRAFFIC
from deploy.grafana.models import MODELS
from deploy.grafana.panel import (
    FLOPS,
    JOB,
    MODEL,
    RATIO,
    SECONDS,
    SELECTED,
    Panel,
    Row,
    outcomes,
    quantile,
    rate,
    saved,
)
from deploy.grafana.promises import PROMISES
from deploy.grafana.shadow import SHADOWS

GLANCE = Row(
    "At a glance",
    (
        Panel(
            "Answers",
            "reqps",
            "Images answered per second. Zero while clients send requests: look at Servers up, "
            "then at Requests by outcome.",
            ((rate("exits_total"), "answers"),),
            4,
            "number",
        ),
        Panel(
            "Flops saved",
            RATIO,
            "Share of full depth's flops. If it falls, look at the budgets that clients request "
            "and at the drift of exits. budget=full saves nothing.",
            ((saved(), "saved"),),
            4,
            "number",
        ),
        Panel(
            "Largest drift of exits",
            RATIO,
            "Distance of the exits taken from those stated in the bundle. Red: the inputs differ "
            "from the calibration images. See Drift of exits.",
            ((f"max(budget:offramp_exit_drift:rate10m{{{SELECTED}}})", "drift"),),
            4,
            "number",
            (0.05, 0.1),
        ),
        Panel(
            "Latency, p99",
            SECONDS,
            "Arrival to answer. Red: see Where the time goes. Mostly queue: add replicas or use "
            "smaller budgets. Mostly compute: the device is busy.",
            ((f"histogram_quantile(0.99, {rate('request_seconds_bucket', 'le')})", "p99"),),
            4,
            "number",
            (0.25, 0.5),
        ),
        Panel(
            "Refused or failed",
            RATIO,
            "Share of all requests. Refused: add replicas or slots. Failed: the server's log has "
            "the traceback.",
            ((outcomes("refused|failed|expired"), "refused or failed"),),
            4,
            "number",
            (0.001, 0.01),
        ),
        Panel(
            "Servers up",
            "short",
            "Servers that Prometheus reaches. Fewer than you started: see `docker compose ps` or "
            "`kubectl get pods`, and the log of the missing server.",
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
            "Shares of answers by exit. If the share of deep exits grows, images are harder or "
            "the budget is larger. Compare with the next row.",
            ((SHARES, "exit {{exit}}"),),
            24,
            "stacked",
            highest=1.0,
            repeat=True,
        ),
        Panel(
            "Seen (line) and expected (dashed), budget $budget",
            RATIO,
            "Each line should be close to its dashed line. If they differ for long, solve the "
            "thresholds again on current images (`python -m exporter`). numeric and "
            "min_confidence have no expected shares.",
            (
                (SHARES, "exit {{exit}}"),
                (
                    f"max by (exit) (offramp_exit_share_expected{{{SELECTED}}})",
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
            "Total variation distance of the last 10 minutes from the manifest: 0 is equal, 1 is "
            "disjoint. Above 0.1: look at the images that clients send (blur, noise, another "
            "camera), check accuracy on a labelled sample, then calibrate again.",
            ((f"max by (budget) (budget:offramp_exit_drift:rate10m{{{SELECTED}}})", "{{budget}}"),),
            limits=(0.05, 0.1),
        ),
        Panel(
            "Confidence at the exit taken, median",
            RATIO,
            "Should stay constant. Falling at every exit: unfamiliar images. Falling only at the "
            "last exit: more hard images.",
            ((quantile(0.5, "confidence", "exit", MODEL), "exit {{exit}}"),),
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
            "A budget above its dashed line exceeds its stated flops. Its exits drift, or the "
            "bundle's thresholds were solved on easier images.",
            (
                (
                    f"{rate('flops_spent_total', 'budget')} / {rate('exits_total', 'budget')}",
                    "{{budget}}",
                ),
                (f"max by (budget) (offramp_flops_expected{{{SELECTED}}})", "{{budget}} expected"),
            ),
        ),
        Panel(
            "Flops spent against full depth",
            "si: flops/s",
            "The gap is the saving of early exits. If it closes, Flops saved by budget shows the "
            "budgets that use more depth.",
            (
                (rate("flops_spent_total"), "spent"),
                (rate("flops_full_total"), "full depth"),
            ),
        ),
        Panel(
            "Flops saved by budget",
            RATIO,
            "Should match the bundle's budgets.svg. Lower: exits drift. Zero: budget=full, or "
            "min_confidence near 1.",
            ((saved("budget"), "{{budget}}"),),
            24,
            highest=1.0,
        ),
    ),
)

ROWS = (GLANCE, EXITS, COST, PROMISES, MODELS, SHADOWS, LATENCY, TRAFFIC, ENGINE, GPU)
