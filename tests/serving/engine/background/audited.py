"""An engine with audits, and what its tests read of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from offramp.bundle.manifest import Manifest
from serving.audit.ledger import Ledger
from serving.engine.background.ladder import ladders
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.runtime.base import Runtime
from tests.serving.audits import Counted, auditing
from tests.serving.engines import AT_ONCE, WatchedEngine, engine_of, until


@asynccontextmanager
async def audited(
    runtime: Runtime, manifest: Manifest, *, ledger: Ledger | None = None, **options: Any
) -> AsyncIterator[tuple[WatchedEngine, Counted]]:
    """An engine that audits every answer. At its end all slots have to be free."""
    options = {"slots": 256, "audits": auditing(manifest, ledger)} | options
    async with engine_of(runtime, manifest, **options) as engine:
        yield engine, Counted(engine)


async def settled(engine: WatchedEngine) -> None:
    """Wait until no slot is taken: all audits have ended."""
    await until(lambda: engine.pool.free == engine.pool.slots)


def ledger_of(manifest: Manifest) -> Ledger:
    return Ledger([ladder.promise for ladder in ladders(manifest, "keep")])


def leaving_at_once(manifest: Manifest) -> Policy:
    """Return the policy of a promise, with thresholds that all images reach."""
    return replace(resolve(manifest, promise="95%"), thresholds=AT_ONCE.thresholds)


def classes(answers: list[Answer]) -> list[int]:
    return [int(answer.opinion.probabilities.argmax()) for answer in answers]
