"""Podman as a stand-in for a Docker engine: its API on a socket, its state in one folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# What Podman needs where there is neither systemd nor room for its own limits.
SETTINGS = """\
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=4096:4096"]
cgroupns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
[network]
network_backend = "netavark"
network_config_dir = "{networks}"
"""
# A build installs Python packages as this host does.
HOST = ("/etc/pip.conf", "/root/.config/pip/pip.conf", "/root/.pip/pip.conf", "/etc/ssl/certs")


@dataclass(frozen=True, slots=True)
class Podman:
    """An engine of our own; its folder can be deleted when all is done."""

    folder: Path

    @property
    def socket(self) -> str:
        """Where its API, which is Docker's, can be reached."""
        return f"unix://{self.folder / 'podman.sock'}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of its commands, and of those that take it for Docker."""
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "DOCKER_HOST": self.socket,
            "TMPDIR": str(self.folder),  # where builds keep their caches
        }

    def command(self, *arguments: str) -> list[str]:
        """A command line on this engine."""
        root, run = self.folder / "root", self.folder / "run"
        return ["podman", f"--root={root}", f"--runroot={run}", *arguments]

    def run(self, *arguments: str) -> str:
        """What a command prints.

        Raises:
            subprocess.CalledProcessError: it failed; what it said is on standard error.
        """
        ran = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            print(ran.stderr, file=sys.stderr)
            ran.check_returncode()
        return ran.stdout.strip()

    def build(self, dockerfile: str, tag: str, context: Path, **arguments: str) -> None:
        """Build an image; packages come from where this host's pip gets them."""
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        mounts = [f"--volume={path}:{path}:ro" for path in HOST if Path(path).exists()]
        # Docker's format, for OCI's has no health check.
        options = ["--format=docker", "--network=host", f"--file={dockerfile}", f"--tag={tag}"]
        self.run("build", "--quiet", *options, *given, *mounts, str(context))


@contextmanager
def engine(folder: Path) -> Iterator[Podman]:
    """An engine that answers on its socket until the end, and leaves nothing running."""
    (folder / "networks").mkdir(parents=True)
    settings = SETTINGS.format(networks=folder / "networks")
    (folder / "containers.conf").write_text(settings, encoding="utf-8")
    podman = Podman(folder)
    command = podman.command("system", "service", "--time=0", podman.socket)
    over = threading.Event()
    timer = threading.Thread(target=_check_health, args=(podman, over))
    with subprocess.Popen(command, env=podman.environment, stderr=subprocess.DEVNULL) as process:
        try:
            _until_it_listens(folder / "podman.sock", process)
            timer.start()
            yield podman
        finally:
            over.set()
            timer.join()
            podman.run("system", "reset", "--force")
            process.terminate()


def _check_health(podman: Podman, over: threading.Event) -> None:
    """Run the containers' own health checks in turn: Podman leaves the timing to systemd."""
    while not over.wait(2):
        for container in podman.run("ps", "--quiet").split():
            check = podman.command("healthcheck", "run", container)
            subprocess.run(check, env=podman.environment, capture_output=True, check=False)


def _until_it_listens(socket: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if socket.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("podman does not listen")
