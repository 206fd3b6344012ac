"""Run all checks of `deploy/` that this machine allows: files, then loopback, then containers.

python -m deploy.check
"""

from __future__ import annotations

import sys

from deploy.check import containers, loopback, static


def main() -> int:
    """Run the checks and return the exit status, 1 if one failed.

    Checks that cannot run here are reported and do not fail.
    """
    return max(static.main(), loopback.main(), containers.main())


if __name__ == "__main__":
    sys.exit(main())
