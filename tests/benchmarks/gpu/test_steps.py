"""Steps end at their limit, with all processes that they started."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent

from benchmarks.gpu.steps import Outcome, Step, files_for_gpu, run_step, steps, write_outcomes

CHILD = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


def running(pid: int) -> bool:
    """Return True for a process that is neither gone nor a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rsplit(")", 1)[1].split()[0] != "Z"


def test_a_step_writes_its_output_and_returns_its_status(tmp_path: Path) -> None:
    step = Step("one", ("-c", "print('done'); raise SystemExit(3)"), 60, ())
    found = run_step(step, tmp_path, 60)
    assert found.status == 3
    assert (tmp_path / "one.txt").read_text() == "done\n"


def test_a_step_that_is_cut_off_leaves_no_process_and_its_output(tmp_path: Path) -> None:
    found = run_step(Step("long", ("-c", dedent(CHILD)), 60, ()), tmp_path, 0.5)
    assert found.status is None
    assert found.seconds < 30
    for child in (tmp_path / "long.txt").read_text().split():
        deadline = time.monotonic() + 30  # the signal has been sent, but not yet served
        while running(int(child)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not running(int(child))


def test_missing_modules_and_files_are_named(tmp_path: Path) -> None:
    step = Step("one", (), 1, ("sys", "no_such_module"), (tmp_path, tmp_path / "gone"))
    assert step.missing() == ["no_such_module", str(tmp_path / "gone")]


def test_the_comparison_ends_before_it_is_ended() -> None:
    here = Path("data"), "cifar10", Path("bundle"), Path("out")
    comparison, *others = steps(*here, 300, ["--epochs", "20"])
    limit = float(comparison.command[comparison.command.index("--limit") + 1])
    assert limit < comparison.limit <= 300
    assert comparison.command[-2:] == ("--epochs", "20")
    assert [step.name for step in others] == ["tests", "engine", "recipe"]
    assert all(step.limit <= 300 for step in others)


def test_only_files_with_tests_for_a_gpu_are_collected() -> None:
    names = {path.name for path in files_for_gpu(Path(__file__).parents[2])}
    assert "test_device.py" in names
    assert "test_boundary.py" not in names


def test_outcomes_are_written(tmp_path: Path) -> None:
    write_outcomes(tmp_path / "steps.csv", [Outcome("a", 0, 1.25), Outcome("b", None, 60)])
    lines = (tmp_path / "steps.csv").read_text().splitlines()
    assert lines == ["step,status,seconds", "a,0,1.2", "b,,60"]
