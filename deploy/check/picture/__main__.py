"""Draw a picture of the dashboard from recorded data.

Layout, units and expressions are read from the shipped JSON. The data come from a real Prometheus
that scraped a real server. Matplotlib draws them in place of Grafana.

    python -m deploy.check.picture --minutes 12 --out docs/dashboard.png
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from deploy.check.picture.panels import draw
from deploy.check.picture.recording import record
from deploy.check.prometheus import NO_SERVER, scraping


def main() -> int:
    """Record data if they do not exist, draw them and return the exit status."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        times = folder / "times.json"
        if not times.exists():
            window = record(folder, arguments.minutes, arguments.rate)
            times.write_text(json.dumps(window), encoding="utf-8")
        start, end = json.loads(times.read_text(encoding="utf-8"))
        with scraping(NO_SERVER, folder) as prometheus:
            draw(prometheus, start, end, arguments.out)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Draw the dashboard from recorded data.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--minutes", type=float, default=12, help="minutes of traffic to record")
    option("--rate", type=float, default=20, help="mean requests per second")
    option("--folder", type=Path, help="folder of recorded data, created if it has no data")
    option("--out", type=Path, default=Path("docs/dashboard.png"), help="picture to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
