"""Define the row of shadows: versions that get copies of requests, and answer none of them."""

from __future__ import annotations

from deploy.grafana.models import LEGEND, VERSION
from deploy.grafana.panel import MODEL, RATIO, SECONDS, Panel, Row, quantile, rate

COMPARED = rate("shadow_total", VERSION, MODEL)
EXITS = rate("shadow_exits_total", f"{VERSION}, side, exit", MODEL)


def _flops(side: str) -> str:
    """Return the flops per second of one side of all comparisons."""
    return rate("shadow_flops_total", VERSION, f'{MODEL},side="{side}"')


def _agreeing(agrees: str) -> str:
    return rate("shadow_total", VERSION, f'{MODEL},agrees="{agrees}"')


SHADOWS = Row(
    "Shadows (empty without --shadow)",
    (
        Panel(
            "Agreement of shadow and served answers",
            RATIO,
            "Share of copies for which both versions give the same class. Low: look at both "
            "versions on labelled images before the shadow answers.",
            ((f"{_agreeing('true')} / {COMPARED}", LEGEND),),
            8,
            highest=1.0,
        ),
        Panel(
            "Flops of the shadow, relative to the served answers",
            RATIO,
            "Above 1: the shadow is dearer on the images of today, and will answer fewer requests "
            "per second.",
            ((f"{_flops('shadow')} / {_flops('served')}", LEGEND),),
            8,
        ),
        Panel(
            "Compute time of both, p50 and p99",
            SECONDS,
            "Time of the batches, without queues. Copies run while no request waits, so that they "
            "can have smaller batches.",
            tuple(
                (
                    quantile(share, "shadow_seconds", f"{VERSION}, side", MODEL),
                    f"{LEGEND} {{{{side}}}} {name}",
                )
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            8,
        ),
        Panel(
            "Exits of both",
            RATIO,
            "Shares of the compared answers. If the shadow leaves later, its thresholds are "
            "stricter, or it is less confident.",
            (
                (
                    f"{EXITS} / on ({VERSION}) group_left {COMPARED}",
                    f"{LEGEND} {{{{side}}}} exit {{{{exit}}}}",
                ),
            ),
            12,
            highest=1.0,
        ),
        Panel(
            "Comparisons, and copies without one",
            "cps",
            "Reason slot: requests needed the slots, as under full load. budget: the shadow has "
            "no such budget. failed: read the log before it answers.",
            (
                (COMPARED, f"{LEGEND} compared"),
                (
                    rate("shadow_dropped_total", f"{VERSION}, reason", MODEL),
                    f"{LEGEND} {{{{reason}}}}",
                ),
            ),
            12,
            "stacked",
        ),
    ),
)
