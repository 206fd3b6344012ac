"""Run the check of Ray Serve in a network namespace with loopback only.

    python -m deploy.check.ray        (as root)

This module does not import Ray: what is missing is named at once.
"""

from __future__ import annotations

import os
import subprocess
import sys

from deploy.check.programs import RAY, can_run

IN_NAMESPACE = "RAY_CHECK_IN_NAMESPACE"


def main() -> int:
    """Run the check in a new network namespace and return the exit status, 1 if it failed."""
    if not can_run("ray-check", RAY):
        return 1
    environment = {**os.environ, IN_NAMESPACE: "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = ["unshare", "--net", sys.executable, "-m", "deploy.ray.check"]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
