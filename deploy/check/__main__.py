"""Run all checks of `deploy/` that this machine allows: files, then loopback, then containers.

python -m deploy.check
"""

from __future__ import annotations

import sys

from deploy.check import containers, loopback, static
from deploy.check.programs import CONTAINERS, LOOPBACK, STATIC, missing


def main() -> int:
    """Run the checks and return the exit status, 1 if one failed.

    Checks that cannot run here are reported and do not fail. Before the first check, everything
    that is missing is printed.
    """
    for check, needed in {"static": STATIC, "loopback": LOOPBACK, "containers": CONTAINERS}.items():
        if absent := missing(needed):
            print(f"{check:12} needs      {', '.join(absent)}", flush=True)
    return max(static.main(), loopback.main(), containers.main())


if __name__ == "__main__":
    sys.exit(main())
