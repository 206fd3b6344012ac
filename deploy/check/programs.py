"""Programs that the checks need, with the packages that have them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

# Folders that are often not on the path: of this environment, of Podman's helpers, of root.
FOLDERS = (Path(sys.executable).parent, "/usr/lib/podman", "/usr/libexec/podman", "/usr/sbin")
EXTRA = "pip install 'offramp[operations]'"
ROOT = "root"  # the rights of this user, beside the programs
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
    "podman": "apt-get install podman",
    "prometheus": "apt-get install prometheus",
    "promtool": "apt-get install prometheus",
    "runc": "apt-get install runc",
    "unshare": "apt-get install util-linux",
    ROOT: "run as root",
}
STATIC = (
    "hadolint",
    "check-jsonschema",
    "docker-compose",
    "git",
    "promtool",
    "kubectl",
    "kubernetes-validate",
)
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
RAY = ("ip", "unshare", ROOT)


def find(program: str) -> str | None:
    """Return the path of a program, or None."""
    folders = os.pathsep.join(map(str, FOLDERS))
    return shutil.which(program) or shutil.which(program, path=folders)


def missing(needed: Sequence[str]) -> list[str]:
    """Return what is missing of the programs and rights, each with the way to get it."""
    absent = [
        name for name in needed if (os.geteuid() != 0 if name == ROOT else find(name) is None)
    ]
    return [f"{name} ({SOURCES[name]})" for name in absent]


def can_run(check: str, needed: Sequence[str]) -> bool:
    """Return True if nothing is missing. If not, print what is."""
    absent = missing(needed)
    if absent:
        print(f"{check:12} UNCHECKED  needs {', '.join(absent)}")
    return not absent
