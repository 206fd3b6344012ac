"""The parts of an overload, with a server that answers everything at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import overload as subject
from benchmarks.serving.figures import MEDIUM
from benchmarks.serving.servers.images import Sent
from benchmarks.serving.servers.processes import Usage
from offramp.load.outcomes import HUNG_UP, NEVER, OK, Outcomes, Plan
from offramp.load.sender import Load, Report

SECONDS, STEP = 75.0, 8.0  # nine parts, each a little longer than a step


class Generator:
    """Gives the outcomes of a plan without sending it."""

    def send(self, plan: Plan, load: Load) -> Report:
        due = np.arange(len(plan)) * load.seconds / len(plan) if plan.send is None else plan.send
        hang_up = np.full(len(plan), NEVER) if plan.hang_up is None else plan.hang_up
        status = np.where(hang_up < NEVER, HUNG_UP, OK)
        none = np.zeros(len(plan), np.int64)
        found = Outcomes(plan.path, plan.image, due, due, due, status, none, none, none, due, none)
        return Report(found, 0.0, 0.0)


def test_hostile_requests_are_in_every_second_part_that_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def started(*_: object) -> Iterator[SimpleNamespace]:
        server = SimpleNamespace(paths={MEDIUM: "/classify?budget=medium"})
        yield SimpleNamespace(server=server, port=0, usage=lambda: Usage(0.0, 1))

    monkeypatch.setattr(subject, "started", started)
    monkeypatch.setattr(subject, "ours", lambda *_: None)
    monkeypatch.setattr(subject, "MANY", 800)
    images = Sent((b"",), np.zeros(1, np.int64))
    given: Any = SimpleNamespace(sent=images, target=None, options=(), out=Path())
    load: Any = Generator()
    rng = np.random.default_rng(0)
    found = subject.overload(given, load, 1.0, SECONDS, STEP, 1.0, rng)
    rate = subject.OVERLOAD * found.saturation
    assert len(found.good) == 9
    assert found.good[::2] == pytest.approx(rate, rel=0.2)
    assert not found.good[1::2].any()
    assert len(found.hostile) > 0
