"""Promises that audits find broken: a safer point answers, or answers say so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import Level
from serving.audit.ledger import Kept, Ledger
from serving.audit.sequence import ConfidenceSequence
from serving.audit.standing import NOTHING
from serving.engine.background.ladder import ladders
from serving.engine.policy import Promised, resolve
from serving.engine.request import Answer
from serving.runtime.base import Runtime
from tests.serving.audits import auditing
from tests.serving.engine.background.audited import audited, classes, ledger_of, settled
from tests.serving.engines import NEVER_EARLY, MakeImages, classify, engine_of


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


def trying(manifest: Manifest) -> Ledger:
    """Return a ledger of which the promise of 95 % was just found broken."""
    ledger = Ledger([ladder.promise for ladder in ladders(manifest, "safer")])
    ledger.restore({"promise-95": Kept("full", False, NOTHING, (NOTHING,))})
    return ledger


def test_full_depth_answers_while_audits_see_what_a_safer_point_would_answer(
    runtime: Runtime, promising: Manifest, images: MakeImages
) -> None:
    ledger, some = trying(promising), images(24, 7)
    policies = [resolve(promising, promise=level) for level in ("95%", "99%")]

    async def run() -> list[list[Answer]]:
        audits = auditing(promising, ledger, on_broken="safer")
        async with audited(runtime, promising, audits=audits) as (engine, _):
            return [await classify(engine, some, policy) for policy in policies]

    full, safer = asyncio.run(run())
    assert {answer.exit for answer in full} == {4}
    assert all(opinion is not None for answer in full for opinion in answer.opinions)
    differ = sum(a != b for a, b in zip(classes(full), classes(safer), strict=True))
    assert 0 < differ < 24
    assert ledger.kept()["promise-95"].candidates == (ConfidenceSequence(24, differ),)


def test_a_safer_point_answers_once_audits_support_it(
    runtime: Runtime,
    promising: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manifest = without_early_exits(promising, "99%")
    ledger, policy = trying(manifest), resolve(manifest, promise="95%")

    async def run() -> Answer:
        audits = auditing(manifest, ledger, on_broken="safer")
        async with audited(runtime, manifest, audits=audits) as (engine, _):
            while ledger.tries("promise-95"):
                await classify(engine, images(16, 1), policy)
                await settled(engine)
            return (await classify(engine, images(1, 1), policy))[0]

    answer = asyncio.run(run())
    assert answer.policy.promise == Promised(Level("agreement", 0.05), 0.05, True, "99%")
    assert answer.opinions[0] is None  # not evaluated, as no point is tried any more
    assert "promise-95: audits show with confidence that 99% differs from full depth" in caplog.text


def without_early_exits(manifest: Manifest, level: str) -> Manifest:
    """Return a manifest of which the point of one promise runs all images to full depth."""
    assert manifest.promises is not None
    offered = tuple(
        each.model_copy(update={"thresholds": NEVER_EARLY.thresholds})
        if str(each.level) == level
        else each
        for each in manifest.promises.offered
    )
    promises = manifest.promises.model_copy(update={"offered": offered})
    return manifest.model_copy(update={"promises": promises})


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
