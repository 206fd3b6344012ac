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

from serving.processes.addresses import listen

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


REQUIREMENTS = ROOT / "requirements"
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.training"])
def test_images_install_only_packages_with_hashes(dockerfile: str) -> None:
    text = (ROOT / "deploy" / dockerfile).read_text(encoding="utf-8")
    installs = re.findall(r"install \\\n(.*)", text)
    assert installs
    assert all("--require-hashes" in line or "--no-index --no-deps" in line for line in installs)
    for name in set(re.findall(r"[\w-]+\.txt", text)):
        locked = (REQUIREMENTS / name).read_text(encoding="utf-8")
        entries = re.split(r"\n(?=[a-z0-9])", locked)[1:]
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries)
        assert "://" not in locked  # no index is named


def test_the_training_image_has_the_versions_that_are_tested() -> None:
    pins, tested = (
        dict(PIN.findall((REQUIREMENTS / name).read_text(encoding="utf-8")))
        for name in ("training.txt", "constraints.txt")
    )
    assert {"torch", "setuptools", "onnx"} <= pins.keys()
    assert {name: tested.get(name) for name in pins} == pins


def images() -> set[str]:
    """Return the images of registries that Dockerfiles and Compose name."""
    files = ("deploy/Dockerfile", "deploy/Dockerfile.training", "docker-compose.yml")
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    return {name for text in texts for name in re.findall(r"docker\.io/[\w./-]+:[\w.-]+", text)}


def test_the_readme_pins_every_image_of_a_registry(tmp_path: Path) -> None:
    """The documented commands run, with a `docker` that prints a digest."""
    readme = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    ((block),) = [
        block
        for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
        if "imagetools" in block
    ]
    assert {f"docker.io/{name}" for name in re.findall(r"\S+/\S+:[\w.-]+", block)} >= images()
    for file in ("deploy/Dockerfile", "deploy/Dockerfile.training", "docker-compose.yml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    digest = "sha256:" + "0123456789abcdef" * 4
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho {digest}\n", encoding="utf-8")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"}
    for _ in range(2):  # pinned images are pinned again
        subprocess.run(["bash", "-ec", block], cwd=tmp_path, env=environment, check=True)
        for name in images():
            for file in ("deploy/Dockerfile", "deploy/Dockerfile.training", "docker-compose.yml"):
                text = (tmp_path / file).read_text(encoding="utf-8")
                assert text.count(name) == text.count(f"{name}@{digest}\n"), file


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
