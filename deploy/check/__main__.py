"""All that can be proven of `deploy/` here: files, then loopback, then containers.

python -m deploy.check
"""

from __future__ import annotations

import sys

from deploy.check import containers, loopback, static


def main() -> int:
    """Entry point: 1 if anything failed. What could not be checked is said, and does not fail."""
    return max(static.main(), loopback.main(), containers.main())


if __name__ == "__main__":
    sys.exit(main())
