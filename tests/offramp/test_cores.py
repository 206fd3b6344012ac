"""The cores that a process can use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offramp.cores import cores, cpu_quota

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


@pytest.mark.parametrize(("quota", "found"), [(0.5, 1), (1.9, 1), (2.0, 2), (64.0, 3), (None, 3)])
def test_cores_are_those_of_this_process_and_at_most_the_quota(
    quota: float | None, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr("offramp.cores.cpu_quota", lambda: quota)
    assert cores() == found
