"""Read the version of an answer, and whether its label is of that model and version."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from offramp.load.outcomes import OK


def read_version(status: int, body: bytes) -> tuple[float, ...]:
    """Return version, exit, flops, probability and 1 if the label names the version, else 0."""
    if status != OK:
        return -1, -1, -1, np.nan, 0
    document = json.loads(body)
    answer, version = document["answers"][0], int(document["model"]["version"])
    right = names_itself(document)
    return version, answer["exit"], answer["flops"], answer["probability"], float(right)


def names_itself(document: dict[str, Any]) -> bool:
    """Return whether the label of an answer is of the model and version that the answer names."""
    model, label = document["model"], document["answers"][0]["label"]
    return bool(label.startswith(f"{model['name']}@{model['version']}:"))
