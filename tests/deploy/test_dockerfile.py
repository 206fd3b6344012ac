"""Packages that the Dockerfiles copy into the images."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serving.processes.server import listen

ROOT = Path(__file__).parents[2]
PACKAGES = {"offramp", "serving", "training", "exporter"}
LOADED = """\
import sys
import serving.app
for name in sorted({module.split(".")[0] for module in sys.modules}):
    print(name, getattr(sys.modules[name], "__file__", None))
"""


def copied(dockerfile: str) -> set[str]:
    """Return the packages of this repository that a Dockerfile copies."""
    text = (ROOT / "deploy" / dockerfile).read_text(encoding="utf-8")
    return set(re.findall(r"^COPY (\w+) ", text, re.MULTILINE)) & PACKAGES


def test_the_server_starts_with_the_copied_packages_alone(tmp_path: Path) -> None:
    for package in copied("Dockerfile"):
        shutil.copytree(ROOT / package, tmp_path / package)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", LOADED],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert loaded.keys() & (PACKAGES | {"torch"}) == {"offramp", "serving"}
    assert all(Path(loaded[name]).is_relative_to(tmp_path) for name in ("offramp", "serving"))


def test_the_training_image_has_all_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in included} == PACKAGES
    assert copied("Dockerfile.training") == PACKAGES


class Ready(BaseHTTPRequestHandler):
    """A server that answers one path."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "::1"])
def test_the_health_check_asks_the_address_and_port_of_the_settings(host: str) -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ +CMD (\[.*\])$", text, re.MULTILINE)
    command = [sys.executable, *json.loads(line)[1:]]
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        server = HTTPServer((host, port), Ready, bind_and_activate=False)
        server.socket.close()
        server.socket = listener
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for tried, status in ((port, 0), (1, 1)):
                environment = {**os.environ, "OFFRAMP_HOST": host, "OFFRAMP_PORT": str(tried)}
                ended = subprocess.run(command, env=environment, capture_output=True, check=False)
                assert ended.returncode == status
        finally:
            server.shutdown()
            thread.join()
