"""The metrics folder of several workers, from which any worker answers `/metrics` for all.

This is prometheus_client's multiprocess mode with the worker's number instead of the process id.
The process that replaces a dead worker continues its counters, and the number of files does not
grow. The live gauges of a dead worker are removed. The folder also has the files of `counters`
and `exit_drift`, and the process ids. From these the memory and CPU time of all processes are
reported as sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.process_collector import ProcessCollector

from serving.observe.folder_lock import PREFIX, hold, remove_abandoned
from serving.observe.mapped_memory import no_room
from serving.observe.prometheus_internals import write_metrics_of_worker

MEMORY = Path("/dev/shm")  # noqa: S108 (a new folder in it, with access for its owner only)
SUPERVISOR = "supervisor.pid"
SUPERVISOR_ONLY = {"process_start_time_seconds", "process_max_fds"}  # not summed
CPU = "process_cpu_seconds"


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """A worker's part of the metrics folder.

    Attributes:
        folder: Folder with the metrics of all workers.
        worker: Number of this worker.
        workers: Number of all workers that there should be.
    """

    folder: Path
    worker: int
    workers: int = 1

    def activate(self) -> None:
        """Write every metric that this process creates from now on under this worker's number.

        Raises:
            OSError: The folder has no room.
        """
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)
        write_metrics_of_worker(lambda: self.worker)
        hold(self.folder)
        _write_pid(self._pid)

    def remove_dead(self) -> None:
        """Remove the live gauges of this worker, which has ended. Its counters stay."""
        mark_process_dead(self.worker, str(self.folder))
        self._pid.unlink(missing_ok=True)

    @property
    def _pid(self) -> Path:
        return self.folder / f"{self.worker}.pid"


class Processes:
    """A collector of the `process_*` metrics, summed over the supervisor and its workers.

    Memory that several processes map is counted once for each. CPU time includes ended workers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield sums over the living processes, or nothing where there is no /proc."""
        supervisor = self._folder / SUPERVISOR
        sums = _process_metrics(supervisor)
        for file in self._folder.glob("*.pid"):
            for name, family in _process_metrics(file).items() if file != supervisor else ():
                if name in sums and name not in SUPERVISOR_ONLY:
                    _add(sums[name], family.samples[0].value)
        if CPU in sums:
            _add(sums[CPU], _cpu_seconds_of_ended(supervisor))
        yield from sums.values()


class ExpectedWorkers:
    """A collector of the number of workers that there should be."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        text = "Server processes that should serve."
        yield GaugeMetricFamily("offramp_workers_expected", text, self._workers)


def collect_process(registry: CollectorRegistry, worker: WorkerMetrics | None) -> None:
    """Add the metrics of this process, or of all workers and what they wrote to their folder."""
    registry.register(ExpectedWorkers(1 if worker is None else worker.workers))
    if worker is None:
        ProcessCollector(registry=registry)
        return
    MultiProcessCollector(registry, str(worker.folder))
    registry.register(Processes(worker.folder))


def _process_metrics(file: Path) -> dict[str, Metric]:
    """Return the metrics of one process by name, empty if the process has ended."""
    with suppress(OSError):
        pid = file.read_text(encoding="ascii")
        return {f.name: f for f in ProcessCollector(pid=lambda: pid, registry=None).collect()}
    return {}


def _add(family: Metric, value: float) -> None:
    (sample,) = family.samples
    family.samples = [sample._replace(value=sample.value + value)]


def _cpu_seconds_of_ended(supervisor: Path) -> float:
    """Return the CPU time of the supervisor's ended children, in seconds."""
    pid = supervisor.read_text(encoding="ascii")
    stat = Path("/proc", pid, "stat").read_bytes()  # with a name in any encoding
    return sum(map(int, stat.rpartition(b")")[2].split()[13:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """Create a new folder, in memory if possible, and remove it at the end.

    Folders of servers that were killed are removed first.

    Raises:
        OSError: No folder for temporary files is writable, or it has no room.
    """
    try:
        folder = _new_folder()
    except OSError as error:
        text = "several workers need a folder for temporary files: set TMPDIR, or --workers 1"
        raise OSError(text) from error
    with folder as name:
        held = hold(Path(name))
        try:
            _write_pid(Path(name, SUPERVISOR))
            yield Path(name)
        finally:
            os.close(held)


def _new_folder() -> TemporaryDirectory[str]:
    place = MEMORY if os.access(MEMORY, os.W_OK) else Path(gettempdir())
    remove_abandoned(place)
    return TemporaryDirectory(prefix=PREFIX, dir=place)


def _write_pid(file: Path) -> None:
    try:
        file.write_text(str(os.getpid()), encoding="ascii")
    except OSError as error:
        raise no_room(file, error) from error
