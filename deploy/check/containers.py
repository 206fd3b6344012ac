"""`docker compose --profile cpu up`, as far as it can be done without Docker and its registry.

    python -m deploy.check.containers        (as root)

Real: the Dockerfile, the server's image and all that is in it, the compose file and Compose
itself, the order of start by health, name service, published ports, traffic and scrapes.
Stand-ins: Podman for the engine (a thread of ours times its health checks, where there is no
systemd), Debian from mmdebstrap for the base image, Debian's Prometheus for the official image,
and for Grafana a web server that has its mounts and its health check, and no more.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.check.loopback import check
from deploy.check.podman import Podman, engine
from deploy.check.prometheus import Prometheus
from deploy.check.samples import ROOT, images

PROJECT = "offramp-check"
NEEDED = ("podman", "mmdebstrap", "runc", "docker-compose")
WORKERS = 2
BASE = "localhost/offramp-base"
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
MERGED = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"  # else dpkg asks for Perl
PYTHON = "python3,python3-pip,python3-venv,ca-certificates"
STAND_INS = {
    "prometheus": ['--change=ENTRYPOINT ["/usr/bin/prometheus"]', "--change=USER 65534"],
    "grafana": [
        '--change=ENTRYPOINT ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/srv"]',
        "--change=USER 472",
    ],
}
HOOKS = (
    'ln -s busybox "$1/bin/wget"',
    'mkdir -p "$1/prometheus" "$1/srv/api" "$1/etc/grafana" "$1/var/lib/grafana"',
    'chmod 777 "$1/prometheus"',
    'touch "$1/srv/api/health"',
)


def debian(podman: Podman, packages: str, hooks: Sequence[str] = ()) -> Path:
    """A root file system made by mmdebstrap, of this host's release and from its mirrors."""
    file = podman.folder / f"{packages.split(',', 1)[0]}.tar"
    options = [f"--customize-hook={hook}" for hook in hooks]
    options += [
        f"--include={packages},usr-is-merged",
        f"--hook-dir={MERGED}",
        "--dpkgopt=force-unsafe-io",
        '--aptopt=Acquire::Check-Valid-Until "false"',
    ]
    sources = [path for path in SOURCES if Path(path).exists()]
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *options, release, str(file), *sources]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        print(made.stderr, file=sys.stderr)
        made.check_returncode()
    return file


def compose(podman: Podman, *arguments: str, **settings: str) -> str:
    """Real Compose, which takes Podman for Docker."""
    found = shutil.which("docker-compose") or str(Path(sys.executable).parent / "docker-compose")
    options = ["--progress=quiet", f"--project-name={PROJECT}", "--profile=cpu"]
    command = [found, *options, *arguments]
    environment = {**podman.environment, **settings}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return ran.stdout


def prepare(podman: Podman) -> None:
    """The base image, the server's image, and the stand-ins by their official names."""
    podman.run("import", "--quiet", str(debian(podman, PYTHON)), BASE)
    started = time.monotonic()
    podman.build("deploy/Dockerfile", "offramp-serving:cpu", ROOT, BASE_IMAGE=BASE, PROVIDER="cpu")
    print(f"image        built in {time.monotonic() - started:.0f} s")
    services = json.loads(compose(podman, "config", "--format", "json"))["services"]
    stand_in = debian(podman, "prometheus,busybox-static", HOOKS)
    for name, changes in STAND_INS.items():
        podman.run("import", "--quiet", *changes, str(stand_in), services[name]["image"])


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def container(podman: Podman, service: str) -> str:
    """The name of a service's container."""
    return podman.run(
        "ps", "--format={{.Names}}", f"--filter=label=com.docker.compose.service={service}"
    )


def inspect(podman: Podman) -> list[str]:
    """What is wrong with the running server's container."""
    name = container(podman, "serving-cpu")
    status = podman.run("exec", name, "cat", "/proc/1/status")
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    writable = podman.run(
        "exec",
        name,
        "python",
        "-c",
        "import os; print(os.access('/opt', os.W_OK), end=' ');"
        "print(os.statvfs('/').f_flag & os.ST_RDONLY == os.ST_RDONLY)",
    )
    tools = podman.run(
        "exec",
        name,
        "python",
        "-c",
        "import shutil, importlib.util as u; print([t for t in ('gcc', 'cc', 'g++', 'make') if"
        " shutil.which(t)], bool(u.find_spec('torch')), bool(u.find_spec('pip')))",
    )
    users = set(podman.run("top", name, "huser").splitlines()[1:])
    print(
        f"container    user {fields['Uid'][0]}, capabilities {int(fields['CapEff'][0], 16)}, "
        f"no new privileges {fields['NoNewPrivs'][0]}, read-only root {writable.split()[1]}, "
        f"compilers, torch and pip: {tools}"
    )
    wrong = {
        "a process of root": "root" in users or fields["Uid"][0] == "0",
        "capabilities": int(fields["CapEff"][0], 16) != 0,
        "a root that can be written": writable.split() != ["False", "True"],
        "a compiler, torch or pip": tools != "[] False False",
    }
    return [what for what, is_so in wrong.items() if is_so]


def left_behind(podman: Podman) -> list[str]:
    """What is there after `down`."""
    label = f"--filter=label=com.docker.compose.project={PROJECT}"
    kinds = {
        "container": ("ps", "--all", "--quiet"),
        "network": ("network", "ls", "--quiet"),
        "volume": ("volume", "ls", "--quiet"),
    }
    return [kind for kind, command in kinds.items() if podman.run(*command, label)]


def together(podman: Podman) -> list[str]:
    """Up, traffic, inspection, down; what is wrong."""
    settings = {f"{name}_PORT": str(free_port()) for name in ("OFFRAMP", "PROMETHEUS", "GRAFANA")}
    settings["OFFRAMP_WORKERS"] = str(WORKERS)
    try:
        compose(
            podman, "up", "--detach", "--no-build", "--wait", "--wait-timeout", "180", **settings
        )
        print("compose      up; every service healthy, each after those it depends on")
        size = int(podman.run("image", "inspect", "--format={{.Size}}", "offramp-serving:cpu"))
        base = int(podman.run("image", "inspect", "--format={{.Size}}", BASE))
        print(f"image        {size / 1e6:.0f} MB, of which the base is {base / 1e6:.0f} MB")
        wrong = inspect(podman)
        mounted = podman.run(
            "exec",
            container(podman, "grafana"),
            "/bin/busybox",
            "cat",
            "/etc/grafana/dashboards/overview.json",
        )
        if json.loads(mounted)["uid"] != "offramp-overview":
            wrong.append("a dashboard that Grafana cannot see")
        prometheus = Prometheus(f"http://127.0.0.1:{settings['PROMETHEUS_PORT']}")
        if not check(f"http://127.0.0.1:{settings['OFFRAMP_PORT']}", prometheus, images(), rate=50):
            wrong.append("numbers of the dashboard")
        workers = sum(prometheus.now("offramp_workers").values())
        print(f"workers      {workers:.0f}, each counts for all")
        if workers != WORKERS:
            wrong.append("the number of workers")
    finally:
        compose(podman, "down", "--volumes", "--timeout", "45", **settings)
    wrong += [f"a {kind} left behind" for kind in left_behind(podman)]
    print("compose      down" + ("" if left_behind(podman) else "; nothing is left behind"))
    return wrong


def missing() -> list[str]:
    """What this check needs and does not find."""
    beside = Path(sys.executable).parent
    tools = [t for t in NEEDED if not (shutil.which(t) or shutil.which(t, path=beside))]
    return tools + ([] if os.geteuid() == 0 else ["root"])


def main() -> int:
    """Entry point."""
    if lacking := missing():
        print(f"containers   UNCHECKED  needs {', '.join(lacking)}")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="offramp-check-", dir="/var/tmp"))
    try:
        with engine(folder) as podman:
            prepare(podman)
            wrong = together(podman)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"containers   {'FAILED: ' + ', '.join(wrong) if wrong else 'as they should be'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
