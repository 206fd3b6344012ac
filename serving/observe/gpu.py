"""Memory and utilisation of the GPU that serves, asked of its driver (NVML) at each scrape.

They are the device's, whoever uses it, so any worker may answer for all.
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


def visible(device: int, listed: str) -> int | str:
    """What NVML calls a CUDA device: its index, or its UUID.

    Args:
        device: number, as CUDA counts.
        listed: `CUDA_VISIBLE_DEVICES`, empty for all.
    """
    names = [name.strip() for name in listed.split(",") if name.strip()]
    name = names[device] if device < len(names) else str(device)
    return int(name) if name.isdecimal() else name


class Gpu:
    """A collector for one device.

    Raises:
        ImportError: the package nvidia-ml-py is not installed.
        pynvml.NVMLError: there is no driver, or no such device.
    """

    def __init__(self, device: int) -> None:
        import pynvml  # of the extra gpu

        pynvml.nvmlInit()
        found = visible(device, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        by_uuid = isinstance(found, str)
        handle = pynvml.nvmlDeviceGetHandleByUUID if by_uuid else pynvml.nvmlDeviceGetHandleByIndex
        self._nvml: Any = pynvml
        self._handle = handle(found)
        self._labels = (str(device), str(pynvml.nvmlDeviceGetName(self._handle)))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What the device tells; a partition (MIG) does not tell its utilisation."""
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo)
        if memory is not None:
            yield self._family("memory_used_bytes", "Memory of the GPU in use.", memory.used)
            yield self._family("memory_size_bytes", "Memory of the GPU.", memory.total)
        rates = self._ask(self._nvml.nvmlDeviceGetUtilizationRates)
        if rates is not None:
            text = "Share of the last sample period in which a kernel ran."
            yield self._family("utilisation_ratio", text, rates.gpu / 100)

    def _ask(self, question: Callable[[object], T]) -> T | None:
        try:
            return question(self._handle)
        except self._nvml.NVMLError as error:
            log.debug("the GPU does not tell: %s", error)
            return None

    def _family(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"offramp_gpu_{name}", text, labels=["device", "name"])
        family.add_metric(self._labels, value)
        return family


def watch_gpu(registry: CollectorRegistry, device: int) -> None:
    """Add the metrics of a CUDA device; where they cannot be had, the log says why."""
    try:
        registry.register(Gpu(device))
    except Exception as error:  # noqa: BLE001 (no package, no driver: serving goes on)
        log.warning("no metrics of the GPU (they need nvidia-ml-py and its driver): %s", error)
