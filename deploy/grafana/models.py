"""Define the row of models and versions: what each answers, how, and whether loads succeed."""

from __future__ import annotations

from deploy.grafana.panel import (
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

VERSION = "model, version"
LEGEND = "{{model}} {{version}}"
ONE_OF_SEVERAL = 'version!=""'  # only series of a server with --models have the label
ANY_VERSION = f'{JOB},model=~"$model"'
LOADED, CHOSEN = f"{MODEL},{ONE_OF_SEVERAL}", f"{SELECTED},{ONE_OF_SEVERAL}"
ANSWERS = rate("exits_total", VERSION, CHOSEN)
ALL_ANSWERS = rate("exits_total", "model", f'{ANY_VERSION},budget=~"$budget",{ONE_OF_SEVERAL}')
LOADS = f"offramp_model_loads_total{{{ANY_VERSION}}}"
EXIT_SHARES = (
    f"{rate('exits_total', f'{VERSION}, exit', CHOSEN)} / on ({VERSION}) group_left {ANSWERS}"
)

MODELS = Row(
    "Models and versions (empty without --models)",
    (
        Panel(
            "Answers by version",
            "reqps",
            "A version that answers nothing while its share is above 0: see Processes that serve. "
            "Its series end when it is unloaded.",
            ((ANSWERS, LEGEND),),
            8,
            "stacked",
        ),
        Panel(
            "Share of the calls of a model: seen (line) and asked for (dashed)",
            RATIO,
            "A canary should follow its dashed line. Calls that name a version count in the line "
            "only. A version that is kept for a rollback has 0.",
            (
                (f"{ANSWERS} / on (model) group_left {ALL_ANSWERS}", LEGEND),
                (f"max by ({VERSION}) (offramp_model_share{{{LOADED}}})", f"{LEGEND} expected"),
            ),
            8,
            highest=1.0,
        ),
        Panel(
            "Latency by version, p50 and p99",
            SECONDS,
            "A canary above the version that it is compared with: end it by loading that version. "
            "All versions rise together: see Latency.",
            tuple(
                (quantile(share, "request_seconds", VERSION, CHOSEN), f"{LEGEND} {name}")
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            8,
        ),
        Panel(
            "Exits by version",
            RATIO,
            "Versions of a model with different exits need different flops. If the new one goes "
            "deeper than its manifest says, see Drift by version.",
            ((EXIT_SHARES, f"{LEGEND} exit {{{{exit}}}}"),),
            8,
            highest=1.0,
        ),
        Panel(
            "Drift by version",
            RATIO,
            "Largest of all budgets. Above 0.1: the images differ from those that the thresholds "
            "of this version were solved on.",
            ((f"max by ({VERSION}) (budget:offramp_exit_drift:rate10m{{{CHOSEN}}})", LEGEND),),
            8,
            limits=(0.05, 0.1),
        ),
        Panel(
            "Flops saved by version",
            RATIO,
            "Share of full depth's flops. A version that saves less than the one before: compare "
            "their exits.",
            ((saved(VERSION, CHOSEN), LEGEND),),
            8,
            highest=1.0,
        ),
        Panel(
            "Refused or failed by version",
            RATIO,
            "Failed: the log has the traceback, and OfframpVersionFails fires. Refused: the slots "
            "of this version are taken, those of others are not.",
            (
                (outcomes("refused|expired", VERSION, CHOSEN), f"{LEGEND} refused"),
                (
                    f"max by ({VERSION}) (version:offramp_failed:ratio_rate5m{{{LOADED}}})",
                    f"{LEGEND} failed",
                ),
            ),
            8,
        ),
        Panel(
            "Processes that serve",
            "short",
            "Each version should be at the limit. Below it for minutes: a worker was replaced and "
            "cannot load the version. See OfframpVersionNotReady.",
            (
                (f"sum by ({VERSION}) (offramp_model_ready{{{LOADED}}})", LEGEND),
                (f"sum(offramp_workers_expected{{{JOB}}})", "limit"),
            ),
            8,
        ),
        Panel(
            "Loads by result, in 10 minutes",
            "short",
            "failed: `offramp models list` and the page /pages/models.html say why. The version "
            "that answered before still does.",
            (
                (f"sum by (model, result) (increase({LOADS}[10m]))", "{{model}} {{result}}"),
                (
                    f"max by (model) (offramp_model_last_load_failed{{{ANY_VERSION}}})",
                    "{{model}} last one failed",
                ),
            ),
            8,
        ),
    ),
)
