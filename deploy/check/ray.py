"""Run a check of Ray in a network namespace with loopback only.

    python -m deploy.check.ray                  (as root; Ray Serve)
    python -m deploy.check.ray batch [OPTION]   (as root; the batch run, `--help` for options)

This module does not import Ray: what is missing is named at once.
"""

from __future__ import annotations

import os
import subprocess
import sys

from deploy.check.programs import RAY, can_run

IN_NAMESPACE = "RAY_CHECK_IN_NAMESPACE"
BATCH = "batch"
# All processes of a cluster end with the check, in a namespace of processes.
PROCESSES = ("--pid", "--fork", "--kill-child", "--mount-proc")


def main() -> int:
    """Run the check in a new network namespace and return the exit status, 1 if it failed."""
    if not can_run("ray-check", RAY):
        return 1
    batch = sys.argv[1:2] == [BATCH]
    check = ["deploy.ray.batch_check", *sys.argv[2:]] if batch else ["deploy.ray.check"]
    environment = {**os.environ, IN_NAMESPACE: "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = ["unshare", "--net", *(PROCESSES if batch else ()), sys.executable, "-m", *check]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
