"""The energy that the machine used since the start of the server, read at each scrape.

A processor counts it in the zones of RAPL, which Linux shows as files. A GPU counts it in its
driver (NVML). Both count for all processes, so any worker can answer for all workers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily

from serving.observe.hardware.gpu import Gpu
from serving.observe.mapped_memory import WorkerLock, mapped_memory

POWERCAP = Path("/sys/class/powercap")
ZONE = re.compile(r"(intel-rapl:\d+)(:\d+)?")  # processors of AMD have this name too
CELL_BYTES = 8
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Meter:
    """A counter of the energy of one device.

    Attributes:
        source: Name of the device.
        range_uj: Microjoules after which it begins at 0 again. 0: it does not.
        read: Returns microjoules since some time. `None`: there is no value now.
    """

    source: str
    range_uj: int
    read: Callable[[], int | None]


class EnergyCounter:
    """The energy of one device since the start of the server, for all workers.

    Args:
        meter: The counter of the device.
        file: File that all workers map. `None` for a single process.

    Raises:
        OSError: The file system has no room.
    """

    def __init__(self, meter: Meter, file: Path | None = None) -> None:
        self.source = meter.source
        self._meter = meter
        self._cells = mapped_memory(file, 2 * CELL_BYTES).cast("Q")  # last value + 1, sum
        self._lock = WorkerLock(file)

    def joules(self) -> float | None:
        """Return the joules since the first call of any worker. `None`: there is no value now."""
        with self._lock:
            now = self._meter.read()
            if now is None:
                return None
            last, total = self._cells
            if last:
                used = now - (last - 1)
                total += used if used >= 0 else max(0, used + self._meter.range_uj)
            self._cells[0], self._cells[1] = now + 1, total
        return total / 1e6


class Energy:
    """A collector of the energy of several devices."""

    def __init__(self, counters: Sequence[EnergyCounter]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the metric, with the devices that give a value."""
        text = "Energy that a device used since the start of the server, for all processes."
        family = CounterMetricFamily("offramp_energy_joules", text, labels=["source"])
        for counter in self._counters:
            if (joules := counter.joules()) is not None:
                family.add_metric((counter.source,), joules)
        yield family


def watch_energy(
    registry: CollectorRegistry,
    device: int | None,
    folder: Path | None,
    powercap: Path = POWERCAP,
) -> None:
    """Add the energy of the processors, and of a GPU. Nothing is added if nothing counts it.

    Args:
        registry: Where the metric is added.
        device: Number of the CUDA device. `None`: no GPU.
        folder: Metrics folder of several workers. `None` for a single process.
        powercap: Folder with the zones of RAPL.

    Raises:
        OSError: The metrics folder has no room.
    """
    counters = [*_counters([*rapl_meters(powercap), *_gpu_meters(device)], folder)]
    if counters:
        registry.register(Energy(counters))


def _counters(meters: Iterable[Meter], folder: Path | None) -> Iterator[EnergyCounter]:
    """Yield the counters of the meters that give a value."""
    for meter in meters:
        counter = EnergyCounter(meter, folder / f"energy-{meter.source}" if folder else None)
        if counter.joules() is not None:
            yield counter


def rapl_meters(powercap: Path) -> list[Meter]:
    """Return the meters that count no energy twice: the packages, and the memory beside them.

    The zone `psys` includes the packages, and a package includes its zones `core` and `uncore`.
    The log names a zone that only root can read.
    """
    found = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        zone = ZONE.fullmatch(folder.name)
        name = _text(folder / "name")
        if zone is None or not (name == "dram" if zone[2] else name.startswith("package")):
            continue
        source = f"{_text(powercap / zone[1] / 'name')}-{name}" if zone[2] else name
        if _is_readable(folder / "energy_uj"):
            range_uj = int(_text(folder / "max_energy_range_uj") or 0)
            found.append(Meter(source, range_uj, partial(_number, folder / "energy_uj")))
    return found


def _is_readable(file: Path) -> bool:
    try:
        file.read_bytes()
    except PermissionError:
        log.warning("no metric of energy: only root can read %s; run chmod a+r on it", file)
    except OSError as error:
        log.debug("no metric of energy: %s", error)
    else:
        return True
    return False


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except OSError as error:
        log.debug("no metric of energy: %s", error)
        return ""


def _gpu_meters(device: int | None) -> list[Meter]:
    if device is None:
        return []
    try:
        return [Meter(f"gpu-{device}", 0, Gpu(device).energy_uj)]
    except Exception as error:  # noqa: BLE001 (`watch_gpu` logs it for the other metrics)
        log.debug("no metric of energy: %s", error)
        return []
