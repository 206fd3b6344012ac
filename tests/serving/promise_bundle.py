"""The small bundle with promises: points of its curve, with figures that support them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.serving.small_bundle import write_bundle

# kind, epsilon, losses among 4,000 images, point of the curve, name
PROMISES = (
    ("agreement", 0.01, 20, 4, "safe"),
    ("agreement", 0.05, 150, 2, None),
    ("harm", 0.02, 50, 1, None),
)


def promises_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the record for a manifest as JSON data."""
    return {
        "delta": 0.05,
        "at_once": 3,
        "tuned": 1000,
        "certified": 4000,
        "source": "random patterns",
        "graphs": [stage["sha256"] for stage in manifest["stages"]],
        "offered": [
            {
                "name": name,
                "kind": kind,
                "epsilon": epsilon,
                "losses": losses,
                "risk": 1 - point / 10,
                "thresholds": manifest["curve"][point]["thresholds"],
                "mean_flops": manifest["curve"][point]["mean_flops"],
                "exit_shares": manifest["curve"][point]["exit_shares"],
            }
            for kind, epsilon, losses, point, name in PROMISES
        ],
    }


def write_promise_bundle(folder: Path) -> Path:
    """Write the bundle."""
    path = write_bundle(folder) / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format": 3, "promises": promises_of(manifest)}))
    return folder
