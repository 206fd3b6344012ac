"""Check `docker compose --profile cpu up` without Docker and its registry.

    python -m deploy.check.containers        (as root)

These parts are real: the Dockerfile, the server's image and its contents, the compose file and
Compose itself, the start order by health, name resolution, published ports, traffic and scrapes.
These are replaced: the engine by Podman (without systemd, a thread here runs its health checks),
the base image by Debian from mmdebstrap, the official Prometheus image by Debian's package, and
Grafana by a web server that has only its mounts and its health check.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.serving.servers.processes import free_port
from deploy.check.loopback import check
from deploy.check.podman import Podman, engine
from deploy.check.programs import CONTAINERS, can_run, find
from deploy.check.prometheus import Prometheus
from deploy.check.samples import ROOT, images

PROJECT = "offramp-check"
WORKERS = 2
BASE = "localhost/offramp-base"
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
MERGED = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"  # without it dpkg needs Perl
OPTIONS = (  # of mmdebstrap
    f"--hook-dir={MERGED}",
    "--dpkgopt=force-unsafe-io",
    '--aptopt=Acquire::Check-Valid-Until "false"',
)
PYTHON = "python3,python3-pip,python3-venv,ca-certificates"
STAND_INS = {
    "prometheus": ['--change=ENTRYPOINT ["/usr/bin/prometheus"]', "--change=USER 65534"],
    "grafana": [
        '--change=ENTRYPOINT ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/srv"]',
        "--change=USER 472",
    ],
}
WRITABLE = (  # prints True or False for the folder of the program, and for a read-only root
    "import os; print(os.access('/opt', os.W_OK), end=' ');"
    "print(os.statvfs('/').f_flag & os.ST_RDONLY == os.ST_RDONLY)"
)
TOOLS = (  # prints the compilers, and True or False for torch and for pip
    "import shutil, importlib.util as u; print([t for t in ('gcc', 'cc', 'g++', 'make') if"
    " shutil.which(t)], bool(u.find_spec('torch')), bool(u.find_spec('pip')))"
)
HOOKS = (
    'ln -s busybox "$1/bin/wget"',
    'mkdir -p "$1/prometheus" "$1/srv/api" "$1/etc/grafana" "$1/var/lib/grafana"',
    'chmod 777 "$1/prometheus"',
    'touch "$1/srv/api/health"',
)


def debian(podman: Podman, packages: str, hooks: Sequence[str] = ()) -> Path:
    """Build a root file system with mmdebstrap, of this host's release and from its mirrors.

    Raises:
        subprocess.CalledProcessError: mmdebstrap failed.
    """
    file = podman.folder / f"{packages.split(',', 1)[0]}.tar"
    options = [f"--customize-hook={hook}" for hook in hooks]
    options += [f"--include={packages},usr-is-merged", *OPTIONS]
    sources = [path for path in SOURCES if Path(path).exists()]
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *options, release, str(file), *sources]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        print(completed.stderr, file=sys.stderr)
        completed.check_returncode()
    return file


def compose(podman: Podman, *arguments: str, **settings: str) -> str:
    """Run Compose on Podman's Docker API and return its output.

    Raises:
        subprocess.CalledProcessError: Compose failed.
    """
    program = find("docker-compose") or "docker-compose"
    options = ["--progress=quiet", f"--project-name={PROJECT}", "--profile=cpu"]
    command = [program, *options, *arguments]
    environment = {**podman.environment, **settings}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return ran.stdout


def prepare(podman: Podman) -> None:
    """Build the base image and the server's image, and tag the stand-ins with official names."""
    podman.run("import", "--quiet", str(debian(podman, PYTHON)), BASE)
    started = time.monotonic()
    podman.build("deploy/Dockerfile", "offramp-serving:cpu", ROOT, BASE_IMAGE=BASE, PROVIDER="cpu")
    print(f"image        built in {time.monotonic() - started:.0f} s")
    services = json.loads(compose(podman, "config", "--format", "json"))["services"]
    stand_in = debian(podman, "prometheus,busybox-static", HOOKS)
    for name, changes in STAND_INS.items():
        podman.run("import", "--quiet", *changes, str(stand_in), services[name]["image"])


def container(podman: Podman, service: str) -> str:
    """Return the name of a service's container."""
    return podman.run(
        "ps", "--format={{.Names}}", f"--filter=label=com.docker.compose.service={service}"
    )


def inspect(podman: Podman) -> list[str]:
    """Inspect the running server's container and return its faults."""
    name = container(podman, "serving-cpu")
    status = podman.run("exec", name, "cat", "/proc/1/status")
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    writable = podman.run("exec", name, "python", "-c", WRITABLE)
    tools = podman.run("exec", name, "python", "-c", TOOLS)
    users = set(podman.run("top", name, "huser").splitlines()[1:])
    print(
        f"container    user {fields['Uid'][0]}, capabilities {int(fields['CapEff'][0], 16)}, "
        f"no new privileges {fields['NoNewPrivs'][0]}, read-only root {writable.split()[1]}, "
        f"compilers, torch and pip: {tools}"
    )
    faults = {
        "a process runs as root": "root" in users or fields["Uid"][0] == "0",
        "capabilities are not empty": int(fields["CapEff"][0], 16) != 0,
        "the root file system is writable": writable.split() != ["False", "True"],
        "a compiler, torch or pip is installed": tools != "[] False False",
    }
    return [fault for fault, found in faults.items() if found]


def leftovers(podman: Podman) -> list[str]:
    """Return the kinds of objects that still exist after `down`."""
    label = f"--filter=label=com.docker.compose.project={PROJECT}"
    kinds = {
        "container": ("ps", "--all", "--quiet"),
        "network": ("network", "ls", "--quiet"),
        "volume": ("volume", "ls", "--quiet"),
    }
    return [kind for kind, command in kinds.items() if podman.run(*command, label)]


def check_dashboard(podman: Podman) -> list[str]:
    """Return a fault if Grafana's container has no dashboard."""
    file = "/etc/grafana/dashboards/overview.json"
    mounted = podman.run("exec", container(podman, "grafana"), "/bin/busybox", "cat", file)
    return [] if json.loads(mounted)["uid"] == "offramp-overview" else ["Grafana has no dashboard"]


def check_numbers(settings: Mapping[str, str]) -> list[str]:
    """Send traffic, and return the faults of Prometheus's numbers."""
    faults = []
    prometheus = Prometheus(f"http://127.0.0.1:{settings['PROMETHEUS_PORT']}")
    if not check(f"http://127.0.0.1:{settings['OFFRAMP_PORT']}", prometheus, images(), rate=50):
        faults.append("the dashboard's numbers are wrong")
    workers = sum(prometheus.now("offramp_workers").values())
    print(f"workers      {workers:.0f}, each reports the counters of all")
    if workers != WORKERS:
        faults.append("the number of workers is wrong")
    return faults


def run_compose(podman: Podman) -> list[str]:
    """Run up, traffic, inspection and down, and return the faults."""
    settings = {f"{name}_PORT": str(free_port()) for name in ("OFFRAMP", "PROMETHEUS", "GRAFANA")}
    settings["OFFRAMP_WORKERS"] = str(WORKERS)
    settings["OFFRAMP_AUDIT"] = "100%"
    try:
        compose(
            podman, "up", "--detach", "--no-build", "--wait", "--wait-timeout", "180", **settings
        )
        print("compose      up: all services healthy, each started after its dependencies")
        size = int(podman.run("image", "inspect", "--format={{.Size}}", "offramp-serving:cpu"))
        base = int(podman.run("image", "inspect", "--format={{.Size}}", BASE))
        print(f"image        {size / 1e6:.0f} MB, base image {base / 1e6:.0f} MB")
        faults = [*inspect(podman), *check_dashboard(podman), *check_numbers(settings)]
    finally:
        compose(podman, "down", "--volumes", "--timeout", "45", **settings)
    remaining = leftovers(podman)
    faults += [f"a {kind} remains after down" for kind in remaining]
    print("compose      down" + ("" if remaining else ": everything removed"))
    return faults


def main() -> int:
    """Run the check and return the exit status, 1 if it failed."""
    if not can_run("containers", CONTAINERS):
        return 1
    # Otherwise `timeout` would leave containers, and their names would mislead the next check.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="offramp-check-", dir="/var/tmp"))
    try:
        with engine(folder) as podman:
            prepare(podman)
            faults = run_compose(podman)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"containers   {'FAILED: ' + ', '.join(faults) if faults else 'passed'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
