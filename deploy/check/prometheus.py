"""Run a real Prometheus on loopback with the shipped rules, and query it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.serving.servers.processes import free_port

NO_SERVER = "http://127.0.0.1:9"  # no scrapes, to read recorded data only
FOLDER = Path(__file__).parents[1] / "prometheus"


@dataclass(frozen=True, slots=True)
class Series:
    """A series of a query: labels, times in seconds, and values (NaN for missing numbers)."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Client of the HTTP API."""

    url: str

    def get(self, path: str, **query: str | float) -> dict[str, Any]:
        """Send a request and return its data.

        Raises:
            httpx.HTTPStatusError: The query is wrong.
        """
        response = httpx.get(f"{self.url}/api/v1/{path}", params=query, timeout=60)
        response.raise_for_status()
        data: dict[str, Any] = response.json()["data"]
        return data

    def now(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the current value for each set of labels."""
        found = self.get("query", query=expression)["result"]
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in found}

    def between(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Return the series of an expression between two times, `step` seconds apart."""
        found = self.get("query_range", query=expression, start=start, end=end, step=step)
        return [
            Series(
                each["metric"],
                tuple(float(t) for t, _ in each["values"]),
                tuple(float(v) for _, v in each["values"]),
            )
            for each in found["result"]
        ]

    def firing(self) -> set[str]:
        """Return the names of alerts that fire now."""
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def configuration(target: str) -> dict[str, Any]:
    """Return the shipped configuration with one server in place of DNS discovery."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [target]}]
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    return config


@contextmanager
def scraping(server: str, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes a server and stores data in a folder. Stop it at the end.

    Raises:
        FileNotFoundError: Prometheus is not installed.
        RuntimeError: Prometheus did not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError("prometheus: not installed (Debian: apt-get install prometheus)")
    folder.mkdir(parents=True, exist_ok=True)
    configured = json.dumps(configuration(server.removeprefix("http://")))
    (folder / "prometheus.yml").write_text(configured, encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with subprocess.Popen(command) as process:
        try:
            yield _wait_until_ready(Prometheus(f"http://{address}"), process)
        finally:
            process.terminate()


def _wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes]) -> Prometheus:
    for _ in range(300):
        try:
            if httpx.get(f"{prometheus.url}/-/ready").is_success:
                return prometheus
        except httpx.TransportError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("Prometheus did not start")
