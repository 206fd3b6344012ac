"""Promises that audits find broken: a safer point answers, or answers say so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import Level
from serving.engine.policy import Promised, resolve
from serving.engine.request import Answer
from serving.runtime.base import Runtime
from tests.serving.audits import auditing
from tests.serving.engine.background.audited import audited, ledger_of, settled
from tests.serving.engines import MakeImages, classify, engine_of


def test_a_broken_promise_is_answered_by_a_safer_point_that_the_answer_names(
    runtime: Runtime, promising: Manifest, images: MakeImages, tmp_path: Path
) -> None:
    policy = resolve(promising, promise="95%")
    file = tmp_path / "audits.json"

    async def run() -> list[Answer]:
        audits = auditing(promising, on_broken="safer", file=file)
        async with engine_of(runtime, promising, audits=audits) as engine:
            for number in range(100):
                answers = await classify(engine, images(8, number), policy)
                await settled(engine)
                promise = answers[0].policy.promise
                assert promise is not None
                if promise.answered_by == "full":
                    break
            return answers

    answers = asyncio.run(run())
    assert {answer.exit for answer in answers} == {4}
    assert answers[0].policy.promise == Promised(Level("agreement", 0.05), 0.05, True, "full")
    assert json.loads(file.read_text())["promises"]["promise-95"]["point"] == "full"
    (first, *_) = asyncio.run(run())  # after a restart
    assert first.policy.promise == answers[0].policy.promise


def test_a_broken_promise_that_is_kept_is_marked_in_its_answers(
    runtime: Runtime,
    promising: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = resolve(promising, promise="95%")
    ledger = ledger_of(promising)

    async def run() -> Answer:
        async with audited(runtime, promising, ledger=ledger) as (engine, _):
            while not ledger.position("promise-95").broken:
                await classify(engine, images(8, 1), policy)
                await settled(engine)
            return (await classify(engine, images(1, 1), policy))[0]

    answer = asyncio.run(run())
    assert answer.policy.thresholds == policy.thresholds
    assert answer.policy.promise == Promised(Level("agreement", 0.05), 0.05, True, None)
    assert caplog.text.count("promise-95 is broken") == 1
