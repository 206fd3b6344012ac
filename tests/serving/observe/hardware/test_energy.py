"""Energy from a tree of files as Linux makes it, for one process and for several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prometheus_client import CollectorRegistry

from serving.observe.hardware.energy import watch_energy

RANGE = 262_143_328_850  # microjoules, of a usual processor
NOBODY = 65534


def write_zone(powercap: Path, zone: str, name: str, microjoules: int = 0) -> Path:
    folder = powercap / zone
    folder.mkdir()
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def joules(registry: CollectorRegistry) -> dict[str, float]:
    families = [each for each in registry.collect() if each.name == "offramp_energy_joules"]
    return {each.labels["source"]: each.value for family in families for each in family.samples}


def watched(powercap: Path, folder: Path | None = None) -> CollectorRegistry:
    registry = CollectorRegistry()
    watch_energy(registry, None, folder, powercap)
    return registry


def test_packages_and_memory_are_counted_once(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl").mkdir()  # the control type itself
    package = write_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    write_zone(tmp_path, "intel-rapl:0:0", "core")
    memory = write_zone(tmp_path, "intel-rapl:0:1", "dram")
    write_zone(tmp_path, "intel-rapl:1", "psys")
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0")
    registry = watched(tmp_path)
    package.write_text("7500000\n")
    memory.write_text("250000\n")
    assert joules(registry) == {"package-0": 2.5, "package-0-dram": 0.25}
    package.unlink()  # the zone is gone
    assert joules(registry) == {"package-0-dram": 0.25}


def test_a_counter_that_begins_again_loses_nothing(tmp_path: Path) -> None:
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    registry = watched(tmp_path)
    for microjoules, total in ((500_000, 1.5), (RANGE, 262_144.32885), (1_000_000, 262_145.32885)):
        counter.write_text(str(microjoules))
        assert joules(registry)["package-0"] == pytest.approx(total, abs=1e-6)


def test_every_worker_answers_for_all(tmp_path: Path) -> None:
    powercap, shared = tmp_path / "powercap", tmp_path / "metrics"
    powercap.mkdir()
    shared.mkdir()
    counter = write_zone(powercap, "intel-rapl:0", "package-0")
    first = watched(powercap, shared)
    counter.write_text("3000000")
    second = watched(powercap, shared)  # another worker, or one that was started again
    assert joules(second) == {"package-0": 3.0}
    counter.write_text("1000000")  # began again, and only one of the two sees it
    assert joules(second) == joules(first) == {"package-0": pytest.approx(RANGE / 1e6 + 1)}


def test_nothing_is_added_where_nothing_counts(tmp_path: Path) -> None:
    assert list(watched(tmp_path / "none").collect()) == []
    write_zone(tmp_path, "intel-rapl:0", "package-0").write_text("?")
    assert list(watched(tmp_path).collect()) == []


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up the rights of root, which can read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_zone_that_only_root_can_read_is_logged_with_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with TemporaryDirectory() as name:
        powercap = Path(name)
        powercap.chmod(0o755)
        counter = write_zone(powercap, "intel-rapl:0", "package-0")
        counter.chmod(0)
        with as_nobody():
            registry = watched(powercap)
            assert list(registry.collect()) == []
    (record,) = caplog.records
    assert f"only root can read {counter}; run chmod a+r on it" in record.getMessage()


def test_a_missing_gpu_is_no_source(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    watch_energy(registry, 999, None, tmp_path)
    assert list(registry.collect()) == []


@pytest.mark.gpu
def test_a_gpu_counts_its_energy(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    watch_energy(registry, 0, None, tmp_path)
    assert joules(registry)["gpu-0"] >= 0
