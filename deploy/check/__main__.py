"""Run all checks of `deploy/`: files, a proxy, then loopback, then containers.

python -m deploy.check
"""

from __future__ import annotations

import sys

from deploy.check.programs import DEPLOY, OPTIONAL, can_run, missing


def main() -> int:
    """Run the checks and return the exit status, 1 if one failed or a program is missing."""
    if not can_run("deploy-check", DEPLOY):
        return 1
    if absent := missing(OPTIONAL):
        print(f"{'static':12} would use  {', '.join(absent)}", flush=True)
    # After the programs are known to be there, because these imports take seconds.
    from deploy.check import containers, loopback, static
    from deploy.nginx import check as proxy

    return max(static.main(), proxy.main(), loopback.main(), containers.main())


if __name__ == "__main__":
    sys.exit(main())
