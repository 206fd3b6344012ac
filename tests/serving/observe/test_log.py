from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import warnings
from serving.observe.log import set_up_log
set_up_log("info")
for _ in range(3):
    warnings.warn("the same text", UserWarning, stacklevel=1)
for number in range(300):
    warnings.warn(f"text {number} " + "x" * 10_000, UserWarning, stacklevel=1)
"""


def test_warnings_are_logged_as_json_once_and_bounded() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "default", "-c", SCRIPT], capture_output=True, check=True, text=True
    )
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert {line["logger"] for line in lines} == {"py.warnings"}
    assert sum("the same text" in line["message"] for line in lines) == 1
    assert len(lines) == 101
    assert lines[-1]["message"].startswith("more than 100 different warnings")
    assert max(len(line["message"]) for line in lines) <= 500
