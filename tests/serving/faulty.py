"""Parts of a server with a fault, and the command that serves with one of them.

    python -m tests.serving.faulty FAULT --bundle DIR ...    as `python -m serving`

Each fault shows with the first batch, or answer, of a request: not at start.
"""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from threading import current_thread, main_thread
from types import ModuleType
from typing import Any

from offramp.bundle.manifest import Manifest
from serving.__main__ import main
from serving.engine.batch import Batch
from serving.engine.request import Request
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.start import assembly
from serving.images import decoder
from serving.observe.metrics import Metrics
from serving.processes.worker import work
from serving.runtime.base import StageOutput
from serving.runtime.cpu import CpuRuntime
from serving.settings import Settings

TEXT = "a fault on purpose"


class FaultError(Exception):
    """Raised by faulty parts."""

    def __init__(self) -> None:
        super().__init__(TEXT)


class FaultySchedule(Scheduler):
    def schedule(self, *arguments: Any, **options: Any) -> Batch | None:
        batch = super().schedule(*arguments, **options)
        if batch is not None:  # its requests are in no queue any more
            raise FaultError
        return None


class FaultyUpdate(Scheduler):
    def update(self, *_: object) -> list[Request]:
        raise FaultError


class FaultyAdd(Scheduler):
    def add(self, *_: object, **__: object) -> None:
        raise FaultError


class FaultyDrop(Scheduler):
    def drop(self, _: Request) -> bool:
        raise FaultError


class FaultyBatchMetric(Metrics):
    def batch(self, *_: object) -> None:
        raise FaultError


class FaultyAnswerMetric(Metrics):
    def answer(self, *_: object, **__: object) -> None:
        raise FaultError


class FaultyCountMetric(Metrics):
    def count(self, *_: object) -> None:
        raise FaultError


class FaultyRuntime(CpuRuntime):
    """Fails in the stage threads, not at warm-up."""

    def run(self, *arguments: Any, **options: Any) -> StageOutput:
        if current_thread() is not main_thread():
            self.break_down()
        return super().run(*arguments, **options)

    def run_whole(self, *arguments: Any) -> StageOutput:
        if current_thread() is not main_thread():
            self.break_down()
        return super().run_whole(*arguments)

    def break_down(self) -> None:
        raise FaultError


class HungRuntime(FaultyRuntime):
    """Hangs in the stage threads."""

    def break_down(self) -> None:
        hang()


def hang(*_: object) -> Any:
    time.sleep(3600)


FAULTS: dict[str, tuple[ModuleType, str, object]] = {
    "schedule": (assembly, "Scheduler", FaultySchedule),
    "update": (assembly, "Scheduler", FaultyUpdate),
    "batch metric": (assembly, "Metrics", FaultyBatchMetric),
    "answer metric": (assembly, "Metrics", FaultyAnswerMetric),
    "runtime": (assembly, "CpuRuntime", FaultyRuntime),
    "hung stage": (assembly, "CpuRuntime", HungRuntime),
    "hung decoder": (decoder, "decode", hang),
}


def put_in(fault: str) -> None:
    """Let servers that are built from now on have a fault."""
    module, name, part = FAULTS[fault]
    setattr(module, name, part)


def work_faulty_once(
    settings: Settings,
    manifest: Manifest,
    ports: tuple[int, int | None],
    folder: Path,
    number: int,
    news: Connection,
) -> None:
    """Work as a worker process. The first in this folder has a scheduler that fails."""
    mark = folder / "was faulty"
    if not mark.exists():
        mark.touch()
        put_in("schedule")
    work(settings, manifest, ports, folder, number, news)


if __name__ == "__main__":
    fault, *flags = sys.argv[1:]
    put_in(fault)
    sys.exit(main(flags))
