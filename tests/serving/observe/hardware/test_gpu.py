from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from serving.observe.hardware.gpu import nvml_name, watch_gpu


@pytest.mark.parametrize(
    ("device", "listed", "name"),
    [
        (0, "", 0),
        (3, "", 3),
        (1, "4,2", 2),
        (0, " GPU-8932f937 , 1", "GPU-8932f937"),
        (0, "MIG-1b2c", "MIG-1b2c"),
        (2, "0", 2),
    ],
)
def test_the_driver_has_other_device_numbers_than_cuda(
    device: int, listed: str, name: int | str
) -> None:
    assert nvml_name(device, listed) == name


def test_a_missing_device_is_only_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    registry = CollectorRegistry()
    watch_gpu(registry, 999)
    assert "no metrics of the GPU" in caplog.text
    assert list(registry.collect()) == []


@pytest.mark.gpu
def test_memory_and_utilisation_are_within_range() -> None:
    registry = CollectorRegistry()
    watch_gpu(registry, 0)
    values = {s.name: s.value for family in registry.collect() for s in family.samples}
    used, size = (values[f"offramp_gpu_memory_{name}_bytes"] for name in ("used", "size"))
    assert 0 < used <= size
    assert 0 <= values["offramp_gpu_utilisation_ratio"] <= 1
