"""A real Prometheus on loopback, with the rules that ship, and its answers."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

NOBODY = "http://127.0.0.1:9"  # to read what was recorded, and scrape nothing more
FOLDER = Path(__file__).parents[1] / "prometheus"


@dataclass(frozen=True, slots=True)
class Series:
    """One answer of a query: labels, times [s] and values (NaN where there is no number)."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Its HTTP API."""

    url: str

    def ask(self, path: str, **query: str | float) -> dict[str, Any]:
        """The data of an answer.

        Raises:
            httpx.HTTPStatusError: the query is wrong.
        """
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, timeout=60)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def now(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """The value now for each set of labels."""
        found = self.ask("query", query=expression)["result"]
        return {frozenset(one["metric"].items()): float(one["value"][1]) for one in found}

    def between(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """An expression over time."""
        found = self.ask("query_range", query=expression, start=start, end=end, step=step)
        return [
            Series(
                one["metric"],
                tuple(float(t) for t, _ in one["values"]),
                tuple(float(v) for _, v in one["values"]),
            )
            for one in found["result"]
        ]

    def firing(self) -> set[str]:
        """The names of alerts that fire now."""
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def configuration(target: str) -> dict[str, Any]:
    """The configuration that ships, with one server in place of the search by DNS."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [target]}]
    config["rule_files"] = [str(FOLDER / "rules.yml")]
    return config


@contextmanager
def scraping(server: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus that scrapes a server and keeps its data in a folder; stopped at the end.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = shutil.which("prometheus")
    if found is None:
        raise FileNotFoundError("prometheus: not installed (Debian: apt-get install prometheus)")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(
        json.dumps(configuration(server.removeprefix("http://")))
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        found,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with subprocess.Popen(command) as process:
        try:
            yield _once_ready(Prometheus(f"http://{address}"), process)
        finally:
            process.terminate()


def _once_ready(prometheus: Prometheus, process: subprocess.Popen[bytes]) -> Prometheus:
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
