"""The cores that a server uses."""

from __future__ import annotations

import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.cores import SLICE, cpu_quota, yield_to_answers

SCHEDULE = Path("/proc/thread-self/sched")

Files = dict[str, str]


V1 = "cpu,cpuacct/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # version 2, in a container
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, 0.5),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000"}, 3),  # not in this mount
        ("4:cpu,cpuacct:/\n1:memory:/\n", {V1[0]: "250000\n", V1[1]: "100000\n"}, 2.5),
        ("4:cpu,cpuacct:/\n0::/\n", {V1[0]: "-1\n", V1[1]: "100000\n"}, None),
        ("4:cpuacct,cpu:/x\n", {"cpu/cpu.cfs_quota_us": "4", "cpu/cpu.cfs_period_us": "2"}, 2),
        ("1:memory:/\n", {"memory/cpu.max": "1 2"}, None),
        ("0::/\n", {"cpu.max": "what\n"}, None),
        ("0::/\n", {"cpu.max": "1 0\n"}, None),
        ("nothing\n", {}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_control_groups_is_read(
    groups: str, files: Files, quota: float | None, tmp_path: Path
) -> None:
    (tmp_path / "self").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    assert cpu_quota(tmp_path / "self", tmp_path / "mount") == quota


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "missing", tmp_path) is None


def priority_and_slice() -> tuple[int, int]:
    """Return the niceness of the calling thread, and the nanoseconds that it can hold a core."""
    found = re.search(r"se\.slice +: +(\d+)", SCHEDULE.read_text(encoding="utf-8"))
    assert found
    return os.getpriority(os.PRIO_PROCESS, 0), int(found[1])


@pytest.mark.skipif(
    not SCHEDULE.exists() or tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 12),
    reason="Linux has slices for each thread from 6.12 on",
)
def test_a_thread_of_the_background_holds_a_core_briefly_and_no_other_thread_does() -> None:
    niceness, own = priority_and_slice()
    with ThreadPoolExecutor(1, initializer=yield_to_answers, initargs=(2,)) as pool:
        assert pool.submit(priority_and_slice).result() == (niceness + 2, SLICE)
    assert priority_and_slice() == (niceness, own)
    assert own > SLICE
