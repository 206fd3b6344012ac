"""Files of several workers on a file system that is full. The first test needs root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import Gauge, values
from prometheus_client.mmap_dict import MmapedDict

from serving.observe.counters import Counters
from serving.observe.mapped_memory import mapped_memory, reserve_room
from serving.observe.prometheus_internals import write_metrics_of_worker
from serving.observe.worker_metrics import WorkerMetrics

PAGE = 4096
BLOCK = 512  # bytes of a unit of st_blocks
# Runs in a mount namespace of its own, in which {folder} is a tmpfs that is then filled.
FILLED = """\
mount -t tmpfs -o size={size}k tmpfs {folder} || exit 77
exec {python} -c '{code}' {folder}
"""
FILL = """
import sys
from pathlib import Path
def fill():
    with open(Path(sys.argv[1], "fill"), "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)): pass
        except OSError: pass
"""
COUNT = """
from serving.observe.counters import Counters
counters = Counters(Path(sys.argv[1]), 0)
some = [counters.counter("some", "Of a kind.", kind=k) for k in range(5000)]
fill()
for each in some: each.add(2)
print(counters.counter("some", "Of a kind.", kind=1) is not None)
"""
GAUGES = """
from prometheus_client import Gauge
from serving.observe.worker_metrics import WorkerMetrics
WorkerMetrics(Path(sys.argv[1]), 0).activate()
kinds = Gauge("kinds", "Of a kind.", ["kind"], multiprocess_mode="livesum", registry=None)
for k in range(2000): kinds.labels(str(k)).set(k)
fill()
for k in range(2000): kinds.labels(str(k)).set(k + 1)
try:
    for k in range(2000, 9000): kinds.labels(str(k)).set(k)
except OSError as error: print(error)
"""
FULL = """
from serving.observe.worker_metrics import WorkerMetrics
from serving.observe.metrics import Metrics
fill()
try: WorkerMetrics(Path(sys.argv[1]), 0).activate()
except OSError as error: print(error)
"""


def on_a_full_file_system(folder: Path, code: str) -> str:
    """Run code with a tmpfs of 2 MiB on a folder, and return what it prints."""
    script = FILLED.format(size=2048, folder=folder, python=sys.executable, code=FILL + code)
    command = ["unshare", "--mount", "sh", "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare" in ended.stderr or ended.returncode == 77:
        pytest.skip("needs the right to mount")
    assert ended.returncode == 0, (ended.returncode, ended.stderr)
    return ended.stdout


@pytest.mark.parametrize("code", [COUNT, GAUGES, FULL], ids=["counters", "gauges", "start"])
def test_a_full_file_system_kills_no_process(tmp_path: Path, code: str) -> None:
    said = on_a_full_file_system(tmp_path, code)
    assert said.strip() == "True" or (
        f"have no room in {tmp_path} (No space left on device)" in said and "--shm-size" in said
    )


def room(file: Path) -> int:
    return file.stat().st_blocks * BLOCK


def test_the_pages_of_mapped_memory_are_reserved(tmp_path: Path) -> None:
    memory = mapped_memory(tmp_path / "file", 5 * PAGE)
    assert len(memory) == 5 * PAGE
    assert room(tmp_path / "file") >= 5 * PAGE
    memory[-1] = 7
    reserve_room(tmp_path / "file", 9 * PAGE)
    assert (tmp_path / "file").read_bytes()[5 * PAGE - 1] == 7
    assert mapped_memory(tmp_path / "file", 5 * PAGE)[-1] == 7


def test_counters_reserve_what_is_declared_and_not_more(tmp_path: Path) -> None:
    counters = Counters(tmp_path, 0)
    file = tmp_path / "0.counters"
    sizes = []
    for kind in range(5000):
        counters.counter("some", "Of a kind.", kind=kind)
        if kind % 1000 == 0:
            sizes.append(room(file))
            assert room(file) >= 8 * (kind + 1)
    assert sizes == sorted(sizes)
    assert sizes[0] <= 8 * PAGE


def test_files_of_prometheus_grow_and_keep_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr("prometheus_client.values.MmapedDict", MmapedDict)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    write_metrics_of_worker(lambda: 3)
    kinds = Gauge("kinds", "Of a kind.", ["kind"], registry=None, multiprocess_mode="livesum")
    names = [str(k) * (1 if k % 7 else 9000) for k in range(1, 60)]  # some exceed a doubling
    for k, name in enumerate(names):
        kinds.labels(name).set(k)
        (file,) = tmp_path.iterdir()
        assert room(file) >= file.stat().st_size
    stored = MmapedDict.read_all_values_from_file(str(file))
    assert [value for _, value, _, _ in stored] == list(range(len(names)))
    values.close_all_multiprocess_files()
    WorkerMetrics(tmp_path, 3).remove_dead()
    assert not list(tmp_path.iterdir())
