"""Check the playground in a real browser, and take the screenshots of the documents.

    python -m benchmarks.playground --bundle deploy/bundles/clothing-lite0 --screenshots docs

Needs Chromium (Debian: apt-get install chromium) and requirements/playground.txt. `make
playground-check` makes the environment.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.playground")
    parser.add_argument("--bundle", type=Path, default=Path("deploy/bundles/clothing-lite0"))
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--python", default=sys.executable, help="that has the extra serving")
    parser.add_argument("--screenshots", type=Path, help="folder, which has to exist")
    return parser.parse_args()


def main() -> int:
    """Run all checks. Return 1 if one of them failed."""
    options = arguments()
    from benchmarks.playground.run import run_all  # Playwright is in an environment of its own

    return 0 if run_all(options) else 1


if __name__ == "__main__":
    sys.exit(main())
