"""Read the version of an answer, and whether its label is of that version."""

from __future__ import annotations

import json

import numpy as np

from offramp.load.outcomes import OK


def read_version(status: int, body: bytes) -> tuple[float, ...]:
    """Return version, exit, flops, probability and 1 if the label names the version, else 0."""
    if status != OK:
        return -1, -1, -1, np.nan, 0
    document = json.loads(body)
    version, answer = document["model"]["version"], document["answers"][0]
    right = answer["label"].startswith(f"{version}:")
    return int(version), answer["exit"], answer["flops"], answer["probability"], float(right)
