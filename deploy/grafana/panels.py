"""What the dashboard shows: a panel says in which unit, and what to do when it looks wrong.

Here is what early exits are about, which exits and at what cost; `machine` has the rest.
"""

from __future__ import annotations

from deploy.grafana.machine import ENGINE, GPU, LATENCY, TRAFFIC
from deploy.grafana.panel import (
    ASKED,
    FLOPS,
    JOB,
    RATIO,
    SECONDS,
    Panel,
    Row,
    outcomes,
    quantile,
    rate,
    saved,
)

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

ROWS = (GLANCE, EXITS, COST, LATENCY, TRAFFIC, ENGINE, GPU)
