"""CPU time and memory of process trees."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.serving.servers.processes import process_tree


def test_a_process_whose_name_is_not_utf_8_is_found(tmp_path: Path) -> None:
    program = shutil.which("sleep")
    assert program is not None
    named = tmp_path / os.fsdecode(b"caf\xe9")
    named.symlink_to(program)
    with subprocess.Popen([named, "60"]) as process:
        try:
            assert process.pid in {each.pid for each in process_tree(os.getpid())}
        finally:
            process.kill()
