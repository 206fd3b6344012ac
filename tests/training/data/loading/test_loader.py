import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from training.data.datasets import open_dataset
from training.data.loading.loader import Decoder, Loader
from training.errors import RecipeError

SCRIPT = """
import sys, torch
from training.data.datasets import open_dataset
from training.data.loading.loader import Decoder, Loader
if __name__ == "__main__":
    images = open_dataset(sys.argv[1], 32, 2, 0)
    loader = Loader(Decoder(images.train, images.held_out, None), 2, pin_memory=False)
    for _ in loader.read([torch.arange(4)] * 100_000, 0):
        print("read", flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images that take tens of milliseconds to decode."""
    root = tmp_path_factory.mktemp("images")
    for label in ("ant", "bee"):
        (root / label).mkdir()
        for i in range(3):
            Image.effect_noise((1000, 1000), 40 + i).convert("RGB").save(
                root / label / f"{i}.png", compress_level=1
            )
    return root


def in_group(group: int) -> list[int]:
    """Return the processes of a group, without those that have ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_survives_a_run_that_is_killed_while_images_are_decoded(
    tmp_path: Path, folder: Path, number: signal.Signals
) -> None:
    (tmp_path / "read.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "read.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "read\n"
        assert len(in_group(running.pid)) >= 4, "the run, two workers, and the fork server"
        running.send_signal(number)
        running.wait(30)
        end = time.monotonic() + 10
        while in_group(running.pid) and time.monotonic() < end:
            time.sleep(0.1)
        remaining = in_group(running.pid)
        for pid in remaining:
            os.kill(pid, signal.SIGKILL)
    assert not remaining


def test_a_worker_that_is_killed_is_an_error_that_names_the_option(folder: Path) -> None:
    images = open_dataset(str(folder), 32, 2, 0)
    loader = Loader(Decoder(images.train, images.held_out, None), 1, pin_memory=False)
    before = set(multiprocessing.active_children())
    batches = loader.read([torch.arange(2)] * 100, 0)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    worker.kill()
    with pytest.raises(RecipeError, match=r"^workers: a process that decodes images was killed"):
        list(batches)


def test_a_process_without_held_out_images_reads_nothing(folder: Path) -> None:
    images = open_dataset(str(folder), 32, 2, 0)
    empty = replace(images.held_out.select(torch.arange(0)))
    loader = Loader(Decoder(images.train, empty, None), 0, pin_memory=False)
    assert not list(loader.read([], None))
