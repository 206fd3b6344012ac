"""Metrics of the GPU: memory and utilisation, read from its driver (NVML) at each scrape.

They include all processes on the device, so any worker can answer for all workers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

T = TypeVar("T")
log = logging.getLogger(__name__)


def nvml_name(device: int, listed: str) -> int | str:
    """Return the index or the UUID by which NVML knows a CUDA device.

    Args:
        device: Number of the device in CUDA's order.
        listed: Value of `CUDA_VISIBLE_DEVICES`, empty for all devices.
    """
    names = [name.strip() for name in listed.split(",") if name.strip()]
    name = names[device] if device < len(names) else str(device)
    return int(name) if name.isdecimal() else name


class Gpu:
    """A collector of one device's metrics.

    Args:
        device: Number of the CUDA device.

    Raises:
        ImportError: The package nvidia-ml-py is not installed.
        pynvml.NVMLError: There is no driver, or no such device.
    """

    def __init__(self, device: int) -> None:
        import pynvml  # installed by the extra gpu

        pynvml.nvmlInit()
        found = nvml_name(device, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        by_uuid = isinstance(found, str)
        handle = pynvml.nvmlDeviceGetHandleByUUID if by_uuid else pynvml.nvmlDeviceGetHandleByIndex
        self._nvml: Any = pynvml
        self._handle = handle(found)
        self._labels = (str(device), str(pynvml.nvmlDeviceGetName(self._handle)))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics that the driver gives. For a MIG partition it gives no utilisation."""
        memory = self._read(self._nvml.nvmlDeviceGetMemoryInfo)
        if memory is not None:
            yield self._family("memory_used_bytes", "Memory of the GPU in use.", memory.used)
            yield self._family("memory_size_bytes", "Memory of the GPU.", memory.total)
        rates = self._read(self._nvml.nvmlDeviceGetUtilizationRates)
        if rates is not None:
            text = "Share of the last sample period in which a kernel ran."
            yield self._family("utilisation_ratio", text, rates.gpu / 100)

    def energy_uj(self) -> int | None:
        """Return microjoules since the driver was loaded. `None` before Volta, and with MIG."""
        millijoules = self._read(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if millijoules is None else 1000 * int(millijoules)

    def _read(self, read: Callable[[object], T]) -> T | None:
        try:
            return read(self._handle)
        except self._nvml.NVMLError as error:
            log.debug("the GPU driver gives no value: %s", error)
            return None

    def _family(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"offramp_gpu_{name}", text, labels=["device", "name"])
        family.add_metric(self._labels, value)
        return family


def watch_gpu(registry: CollectorRegistry, device: int) -> None:
    """Add the metrics of a CUDA device. If they are not available, log the reason."""
    try:
        registry.register(Gpu(device))
    except Exception as error:  # noqa: BLE001 (serving works without package or driver)
        log.warning("no metrics of the GPU (they need nvidia-ml-py and the driver): %s", error)
