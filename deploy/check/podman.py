"""Run Podman in place of a Docker engine, with its API on a socket and its state in a folder."""

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

# Podman needs these without systemd and without rights to raise limits.
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
# A build uses this host's pip configuration.
HOST = ("/etc/pip.conf", "/root/.config/pip/pip.conf", "/root/.pip/pip.conf", "/etc/ssl/certs")


@dataclass(frozen=True, slots=True)
class Podman:
    """A private engine. Its folder can be deleted at the end."""

    folder: Path

    @property
    def socket(self) -> str:
        """Return the address of its Docker API."""
        return f"unix://{self.folder / 'podman.sock'}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment for its commands and for Docker clients."""
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "DOCKER_HOST": self.socket,
            "TMPDIR": str(self.folder),  # caches of builds
        }

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a command on this engine."""
        root, run = self.folder / "root", self.folder / "run"
        return ["podman", f"--root={root}", f"--runroot={run}", *arguments]

    def run(self, *arguments: str) -> str:
        """Run a command and return its output.

        Raises:
            subprocess.CalledProcessError: The command failed. Its errors are printed to stderr.
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
        """Build an image, with packages from the index of this host's pip."""
        build_arguments = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        mounts = [f"--volume={path}:{path}:ro" for path in HOST if Path(path).exists()]
        # Docker's format: the OCI format has no health check.
        options = ["--format=docker", "--network=host", f"--file={dockerfile}", f"--tag={tag}"]
        self.run("build", "--quiet", *options, *build_arguments, *mounts, str(context))


@contextmanager
def engine(folder: Path) -> Iterator[Podman]:
    """Run an engine with its socket, and stop it and its containers at the end.

    Raises:
        RuntimeError: Podman does not listen on its socket.
    """
    (folder / "networks").mkdir(parents=True)
    settings = SETTINGS.format(networks=folder / "networks")
    (folder / "containers.conf").write_text(settings, encoding="utf-8")
    podman = Podman(folder)
    command = podman.command("system", "service", "--time=0", podman.socket)
    stopped = threading.Event()
    timer = threading.Thread(target=_check_health, args=(podman, stopped))
    with subprocess.Popen(command, env=podman.environment, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for_socket(folder / "podman.sock", process)
            timer.start()
            yield podman
        finally:
            stopped.set()
            timer.join()
            podman.run("system", "reset", "--force")
            process.terminate()


def _check_health(podman: Podman, stopped: threading.Event) -> None:
    """Run the containers' health checks, which Podman leaves to systemd timers."""
    while not stopped.wait(2):
        for container in podman.run("ps", "--quiet").split():
            check = podman.command("healthcheck", "run", container)
            subprocess.run(check, env=podman.environment, capture_output=True, check=False)


def _wait_for_socket(socket: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if socket.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("podman does not listen")
