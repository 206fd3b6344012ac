"""Training with two processes, started by torchrun, compared with one process."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.ranks import CASES, VIT, Case, run, trainer_of
from training.errors import CheckpointError
from training.fit.checkpoint import Checkpoint, load_checkpoint

pytestmark = pytest.mark.early
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESUMED = {"one-then-two", "two-then-one"}


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=127.0.0.1"),
            *command,
        ],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command and every case with two processes; then the second fails on purpose."""
    made = tmp_path_factory.mktemp("two")
    run(Case(VIT, epochs=1), made / "one-then-two")
    local = ("127.0.0.1", 0)
    with socket.create_server(local) as one, socket.create_server(local) as other:
        ports = [str(free.getsockname()[1]) for free in (one, other)]
    finished = torchrun(str(HERE / "ranks.py"), str(made), *ports)
    assert {path.name for path in made.iterdir()} >= CASES.keys(), finished.stderr
    # if the first process had waited for the second, the test would have timed out
    assert finished.returncode == 1
    assert "an error in the second process" in finished.stderr
    (made / "printed").write_text(finished.stdout)
    return made


def assert_close(one: Checkpoint, other: Checkpoint, case: Case) -> None:
    """Compare losses, weights and the state of objectives, up to rounding.

    Differences in weights are relative to their change in training. Running statistics differ if
    one process updates them for each micro-batch, because two processes average them.
    """
    for a, b in zip(one.progress.epochs, other.progress.epochs, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
    start = trainer_of(case).checkpoint()
    for first, here, there in (
        (start.weights, one.weights, other.weights),
        (start.objective, one.objective, other.objective),
    ):
        for name, tensor in here.items():
            if not (case.one_process and re.search("running_|num_batches", name)):
                moved = (tensor - first[name]).double().norm()
                apart = (tensor - there[name]).double().norm()
                assert apart <= 1e-3 * moved + 1e-7, name


@pytest.mark.parametrize("name", sorted(CASES.keys() - RESUMED))
def test_two_processes_train_like_one(folder: Path, tmp_path: Path, name: str) -> None:
    """With batch norm, one process runs as many micro-batches as there are shards."""
    case = CASES[name]
    run(case, tmp_path / "one", **case.one_process)
    one, two = load_checkpoint(tmp_path / "one"), load_checkpoint(folder / name)
    assert_close(one, two, case)


def test_running_statistics_are_averaged_over_processes(folder: Path) -> None:
    """The mean is that of rank, the variance that of twice the rank."""
    assert [(folder / f"statistics-{k}").read_text() for k in (0, 1)] == ["0.5 1.0"] * 2


def test_all_processes_get_the_numbers_of_the_first(folder: Path) -> None:
    assert [(folder / f"received-{k}").read_text() for k in (0, 1)] == ["[0.1, 0.5]"] * 2


def test_a_run_resumes_with_more_or_fewer_processes(folder: Path, tmp_path: Path) -> None:
    run(Case(VIT), tmp_path / "one")
    whole = load_checkpoint(tmp_path / "one")
    assert_close(whole, load_checkpoint(folder / "one-then-two"), Case(VIT))
    started_by_two = folder / "two-then-one"
    assert len(load_checkpoint(started_by_two).progress.epochs) == 1
    run(Case(VIT, resume=True), started_by_two)
    assert_close(whole, load_checkpoint(started_by_two), Case(VIT))


def test_work_of_the_first_process_can_take_longer_than_a_message(folder: Path) -> None:
    assert [(folder / f"waited-{k}").exists() for k in (0, 1)] == [True, True]


def test_an_error_in_one_process_ends_the_waiting_ones(folder: Path) -> None:
    assert (folder / "before").exists(), "written before the first process waits"
    assert not (folder / "continued").exists()


def test_the_command_runs_under_torchrun(folder: Path) -> None:
    assert [(folder / f"code-{k}").read_text() for k in (0, 1)] == ["0", "0"]
    printed, out = (folder / "printed").read_text(), folder / "command"
    assert printed.count("2 x cpu") == 1
    assert printed.count("epoch   1/1") == 1
    assert len(load_checkpoint(out / "checkpoint.safetensors").progress.epochs) == 1
    names = sorted(path.name.split(".")[0] for path in out.iterdir())
    assert names.count("events") == 1
    assert "log" in names


def test_different_checkpoints_among_processes_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fit.loop.equal_on_all_processes", lambda _number, _device: False)
    with pytest.raises(CheckpointError, match="must share a folder"):
        run(Case(VIT), tmp_path / "c")
