"""Runs of several processes, for test_distributed: `torchrun ... ranks.py FOLDER PORT PORT`.

Runs the command of training, and trains every run in CASES. Then the first process lets the others
wait, and the second fails while the others wait for it. One start of torch serves all of it.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import torch

from tests.training.families import SMALL
from tests.training.samples import PARQUET, TINY, tiny_dataset, tiny_progress
from training import distributed
from training.data.datasets import open_dataset
from training.distributed import (
    average_statistics,
    from_first_process,
    process_group,
    rank,
    sum_over_processes,
    wait_for_first,
)
from training.errors import DataError
from training.fit.checkpoint import save_checkpoint
from training.fit.loop import fit
from training.fit.trainer import Trainer

IMAGES = 200  # two batches an epoch
# A learning rate so low that differences in rounding do not grow.
SLOW = 0.001
MSDNET: dict[str, object] = {"shape": SMALL["msdnet"], "lr": SLOW}
VIT: dict[str, object] = {"backbone": "vit", "shape": SMALL["vit"], "lr": SLOW}
# With beta 0, deeper exits train no channel that the first exit reads.
PAPER: dict[str, object] = {**MSDNET, "variant": "paper", "beta": 0.0}


@dataclass(frozen=True)
class Case:
    """A run of the tiny recipe."""

    recipe: dict[str, object]
    epochs: int = 2
    on_disk: bool = False
    resume: bool = False
    one_process: dict[str, object] = field(default_factory=dict)  # changes for one process


HALVES: dict[str, object] = {"micro_batch": 50}
CONFLICT: dict[str, object] = {"surgery_rule": "conflict", "conflict_scale": 0.3}
CASES = {
    "joint": Case(MSDNET, one_process=HALVES),
    "paper": Case(PAPER, one_process=HALVES),
    "conflict": Case({**MSDNET, **CONFLICT, "variant": "paper"}, one_process=HALVES),
    "equilibrium": Case({**MSDNET, "objective": "equilibrium"}, one_process=HALVES),
    "distillation": Case({**MSDNET, "objective": "distillation"}, one_process=HALVES),
    "pcgrad": Case({**MSDNET, "objective": "pcgrad"}, one_process=HALVES),
    "block-dependent": Case({**MSDNET, "objective": "block-dependent"}, one_process=HALVES),
    "quarters": Case({**MSDNET, "micro_batch": 25}, one_process={"micro_batch": 25}),
    "whole": Case(VIT),
    "whole-pcgrad": Case({**VIT, "objective": "pcgrad"}),
    "disk": Case({**VIT, "crop": "resized"}, on_disk=True),
    "one-then-two": Case(VIT, resume=True),
    "two-then-one": Case(VIT, epochs=1),
}


def trainer_of(case: Case, **changes: object) -> Trainer:
    """Build the trainer of a case."""
    progress, cpu = tiny_progress(**(case.recipe | changes)), torch.device("cpu")
    some = torch.arange(IMAGES)
    if case.on_disk:
        on_disk = open_dataset(TINY.data, TINY.size, TINY.held_out, TINY.seed)
        return Trainer(progress, replace(on_disk, train=on_disk.train.select(some)), cpu)
    dataset = tiny_dataset()
    return Trainer(progress, replace(dataset, train=dataset.train.select(some)), cpu)


def run(case: Case, path: Path, **changes: object) -> None:
    """Train to the end of the run, or for the number of epochs of the case."""
    trainer = trainer_of(case, **changes)
    if case.epochs == 2:
        fit(
            trainer,
            path,
            resume=case.resume,
            track=lambda batches, _: batches,
            report=lambda _: None,
        )
        return
    trainer.run_epoch(lambda batches, _: batches)
    if rank() == 0:
        save_checkpoint(path, trainer.checkpoint())


COMMAND = [
    *("training", "cifar-compact", f"--data={PARQUET}", "--held-out=100", "--batch-size=100"),
    *("--epochs=1", "--device=cpu", "--shape.exits", "2", "--shape.channels=4"),
    *("--shape.growth", "4", "--images=disk", "--workers=0"),
]


def run_command(folder: Path) -> None:
    """Run the command as `torchrun -m training` does, and write its exit code."""
    sys.argv = [*COMMAND, f"--out={folder / 'command'}"]
    try:
        runpy.run_module("training", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        (folder / f"code-{os.environ['RANK']}").write_text(str(ended.code))


def wait_longer_than_a_message(folder: Path) -> None:
    """Let the other processes wait for work of the first one, and write that they did."""
    if rank() == 0:
        time.sleep(1.25 * distributed.TIMEOUT.total_seconds())
    wait_for_first()
    (folder / f"waited-{rank()}").touch()


def main(folder: Path, port: str, second_port: str) -> None:
    torch.set_num_threads(1)
    run_command(folder)
    # the store of torchrun has the addresses of the command's group, which has ended
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": port}
    with process_group(torch.device("cpu")):
        for name, case in CASES.items():
            run(case, folder / name)
        norm = torch.nn.BatchNorm2d(1)
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        mean.fill_(rank())
        variance.fill_(2 * rank())
        average_statistics(torch.nn.Sequential(norm))
        received = from_first_process([rank() + 0.1, 0.5], torch.device("cpu"))
        (folder / f"received-{rank()}").write_text(str(received))
        (folder / f"statistics-{rank()}").write_text(f"{mean.item()} {variance.item()}")
    os.environ["MASTER_PORT"] = second_port
    distributed.TIMEOUT = timedelta(seconds=8)
    with process_group(torch.device("cpu")):
        wait_longer_than_a_message(folder)
        if rank() == 1:
            raise DataError("an error in the second process")
        (folder / "before").touch()
        sum_over_processes(torch.zeros(1))
        (folder / "continued").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
