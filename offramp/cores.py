"""The number of CPU cores that this process can use."""

from __future__ import annotations

import os
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the number of cores that this process can use, at most its CPU quota rounded down."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return own if quota is None else max(1, min(own, int(quota)))


def cpu_quota(membership: Path = MEMBERSHIP, mount: Path = CGROUPS) -> float | None:
    """Return the CPU time for each second that control groups (CFS) allow, or `None` for no limit.

    A container often sees all cores of the machine, and is stopped when its quota is spent. The
    quota of each parent group holds too.

    Args:
        membership: File with the control groups of this process.
        mount: Folder of the control groups, version 2 or 1.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    quotas = [_quota_of(group) for line in lines for group in _groups_in(line, mount)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups_in(line: str, mount: Path) -> list[Path]:
    """Return the folders of a control group and its parents, if it is one of the CPU."""
    _, controllers, path = [*line.split(":", 2), "", ""][:3]
    if controllers and "cpu" not in controllers.split(","):
        return []
    roots = [mount] if not controllers else [mount / name for name in (controllers, "cpu")]
    parts = Path(path.lstrip("/")).parts
    # In a container the path can be that of the host, which its mount does not have.
    groups = [Path(*parts[:k]) for k in range(len(parts) + 1)]
    return [root / group for root in roots for group in groups]


def _quota_of(group: Path) -> float | None:
    """Return the quota of one control group, or `None` without a quota."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
