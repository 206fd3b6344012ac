"""Processes of Ray on this machine, found by the titles that Ray gives them."""

from __future__ import annotations

from pathlib import Path


def titled(title: bytes) -> list[int]:
    """Return the ids of the processes that are alive and have a title with this beginning."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(title):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return sorted(found)
