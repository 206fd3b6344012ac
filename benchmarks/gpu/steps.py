"""The steps: a command each, with a limit of time, and what it needs."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

TRAINING = (
    *("torch", "numpy", "pydantic", "pydantic_settings", "pyarrow", "PIL", "rich", "safetensors"),
    *("matplotlib", "jinja2", "tensorboard", "datasets"),
)
SERVING = (
    *("onnxruntime", "onnx", "fastapi", "orjson", "simplejpeg", "httptools", "uvicorn", "uvloop"),
    *("prometheus_client", "pynvml"),
)
TESTING = ("pytest", "pytest_timeout", "hypothesis", "httpx")
MARK, TESTS = "pytest.mark.gpu", Path("tests")
SECONDS_TO_END = 5.0  # from the signal to end until the signal to stop at once


@dataclass(frozen=True, slots=True)
class Step:
    """A command that runs for a limited time.

    Args:
        name: Name of the step, and of its output OUT/<name>.txt.
        command: Arguments of Python.
        limit: Most seconds that it runs.
        modules: Modules that it imports, beside those of this project.
        places: Files and folders that it reads.
    """

    name: str
    command: tuple[str, ...]
    limit: float
    modules: tuple[str, ...]
    places: tuple[Path, ...] = ()

    def missing(self) -> list[str]:
        """Return the modules and the places that are missing here."""
        modules = [name for name in self.modules if find_spec(name) is None]
        return [*modules, *(str(place) for place in self.places if not place.exists())]


def files_for_gpu(folder: Path) -> list[Path]:
    """Return the files of a folder that have tests for a GPU. Others need more modules."""
    files = sorted(folder.rglob("test_*.py"))
    return [path for path in files if MARK in path.read_text(encoding="utf-8")]


def steps(
    data: Path, cifar: str, bundle: Path, out: Path, seconds: float, options: Sequence[str]
) -> list[Step]:
    """Return all steps, in the order of their value.

    Args:
        data: Images of the comparison, with a test split.
        cifar: Images of the recipe.
        bundle: Bundle to measure the engine with.
        out: Folder of all results.
        seconds: Time for all steps together.
        options: More options of the comparison.
    """
    limit = min(570.0, seconds)
    # it ends its runs and writes its table before it is ended itself
    here = ("--limit", str(limit - 15), "--data", str(data), "--out", str(out / "comparison"))
    of_recipe = ("-m", "training", "cifar-full", "--resume", "--out", str(out / "recipe"))
    cifar_path = (Path(cifar),) if "/" in cifar else ()
    return [
        Step(
            "comparison",
            ("-m", "benchmarks.gpu.comparison", *here, *options),
            limit,
            TRAINING,
            (data,),
        ),
        _tests(),
        _engine(bundle),
        Step("recipe", (*of_recipe, "--data", cifar), limit, TRAINING, cifar_path),
    ]


def _tests() -> Step:
    files = map(str, files_for_gpu(TESTS))
    command = ("-m", "pytest", *("-m", "gpu"), *("-p", "no:cacheprovider"), *files)
    return Step("tests", command, 240, (*TRAINING, *SERVING, *TESTING))


def _engine(bundle: Path) -> Step:
    command = ("-m", "benchmarks.engine.gpu", "--bundle", str(bundle))
    return Step("engine", command, 240, (*TRAINING, *SERVING), (bundle,))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a step: its exit status, or `None` if its time was over."""

    step: str
    status: int | None
    seconds: float


def run_step(step: Step, out: Path, seconds: float) -> Outcome:
    """Run a step for at most its limit and so many seconds. Its output is OUT/<name>.txt."""
    start = time.monotonic()
    with (out / f"{step.name}.txt").open("w", encoding="utf-8") as output:
        # a process group of its own, so that all of its processes can be ended
        running = subprocess.Popen(
            [sys.executable, *step.command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        status: int | None = None
        try:
            status = running.wait(min(step.limit, seconds))
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(running)
    return Outcome(step.name, status, time.monotonic() - start)


def _end(running: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.pid, signal_number)
            running.wait(SECONDS_TO_END)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the outcomes as CSV. The status is empty where the time was over."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "status", "seconds"])
        for one in outcomes:
            status = "" if one.status is None else one.status
            writer.writerow([one.step, status, round(one.seconds, 1)])
