"""Check the files of `deploy/`, each with the tool for its format.

python -m deploy.check.static
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.check.programs import STATIC, can_run, find, missing

ROOT = Path(__file__).parents[2]
OVERLAYS = ("base", "monitoring", "gpu", "models")
KEY_FILE, ADMIN_KEY = "deploy/secrets.env", "deploy/admin.key"
GRPC, MODELS = "deploy/grpc.compose.yml", "deploy/models.compose.yml"
OPERATOR = ("ServiceMonitor", "PrometheusRule")  # resources of the operator: no schema is shipped
# The first version that has `sleep` in `preStop` without a feature gate. kubernetes-validate reads
# the schemas of this one and of the newest it has.
LEAST_KUBERNETES = "1.30"


class MissingError(Exception):
    """A tool is not installed."""


def run(
    tool: str,
    *arguments: str,
    text: str | None = None,
    folder: Path = ROOT,
    **environment: str,
) -> str:
    """Run a tool in a folder, with `text` as input, and return its output.

    Raises:
        MissingError: The tool is neither on the path nor beside this Python.
        subprocess.CalledProcessError: The tool found a fault.
    """
    program = find(tool)
    if program is None:
        raise MissingError(tool)
    ran = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=os.environ | environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise subprocess.CalledProcessError(ran.returncode, tool, ran.stdout, ran.stderr)
    return ran.stdout


def dockerfiles() -> str:
    """Check both Dockerfiles."""
    run("hadolint", "deploy/Dockerfile", "deploy/Dockerfile.training")
    return "both Dockerfiles pass"


def compose() -> str:
    """Check the compose file with its schema and with Compose, for both profiles."""
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    for profile in ("gpu", "cpu"):
        config = run("docker-compose", "--profile", profile, "config", "--format", "json")
        services = json.loads(config)["services"]
        assert services.keys() == {f"serving-{profile}", "prometheus", "grafana"}, services.keys()
        resources = services[f"serving-{profile}"]["deploy"]["resources"]
        devices = resources.get("reservations", {}).get("devices", [])
        assert [d["count"] for d in devices] == ([1] if profile == "gpu" else []), devices
        assert _ports(profile) == ["8000"]
        assert _ports(profile, "-f", "docker-compose.yml", "-f", GRPC) == ["8000", "8001"]
        _check_models(profile)
    return "valid for gpu (one GPU) and cpu (no GPU), with gRPC and without, for a folder of models"


def _check_models(profile: str) -> None:
    """Check with Compose that the folder and the admin key are where the server looks for them."""
    command = ["-f", "docker-compose.yml", "-f", MODELS, "--profile", profile, "config"]
    config = run("docker-compose", *command, "--format", "json", OFFRAMP_MODELS="./models")
    read = json.loads(config)
    server = read["services"][f"serving-{profile}"]
    places = {each["target"]: each["source"] for each in server["volumes"]}
    assert places[server["environment"]["OFFRAMP_MODELS"]] == str(ROOT / "models")
    assert not server["environment"]["OFFRAMP_BUNDLE"]
    (secret,) = server["secrets"]
    assert server["environment"]["OFFRAMP_ADMIN_KEY_FILE"] == f"/run/secrets/{secret['source']}"
    assert read["secrets"][secret["source"]]["file"] == str(ROOT / ADMIN_KEY)
    assert run("git", "check-ignore", ADMIN_KEY).strip() == ADMIN_KEY


def _ports(profile: str, *files: str) -> list[str]:
    """Return the published ports of the server of a profile."""
    config = run("docker-compose", *files, "--profile", profile, "config", "--format", "json")
    ports = json.loads(config)["services"][f"serving-{profile}"]["ports"]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    return [port["published"] for port in ports]


def key() -> str:
    """Check with Compose that the API key comes from the environment or a file git ignores."""
    assert run("git", "check-ignore", KEY_FILE).strip() == KEY_FILE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "deploy").mkdir()
        for file in ("docker-compose.yml", ".env", "deploy/inherited.env"):
            shutil.copy(ROOT / file, folder / file)
        assert _key_of_server(folder) is None
        assert _key_of_server(folder, OFFRAMP_API_KEY="of the environment") == "of the environment"
        (folder / KEY_FILE).write_text("OFFRAMP_API_KEY=of a file\n", encoding="utf-8")
        assert _key_of_server(folder) == "of a file"
        assert _key_of_server(folder, OFFRAMP_API_KEY="of the environment") == "of the environment"
    return f"no key, from the environment, or from {KEY_FILE}; git ignores the file"


def _key_of_server(folder: Path, **environment: str) -> str | None:
    """Return the API key that Compose gives the server of the default profile."""
    read = run("docker-compose", "config", "--format", "json", folder=folder, **environment)
    server = json.loads(read)["services"]["serving-gpu"]
    key: str | None = server["environment"].get("OFFRAMP_API_KEY")
    return key


def prometheus() -> str:
    """Check configuration and rules, and run the tests of the rules."""
    run("promtool", "check", "config", "deploy/prometheus/prometheus.yml")
    tests = ("deploy/prometheus/rules_test.yml", "deploy/prometheus/rules_long_test.yml")
    run("promtool", "test", "rules", *tests)
    return "configuration is valid, tests of the alerts pass"


def kubernetes() -> str:
    """Render the manifests and check them with the schemas of Kubernetes, offline."""
    with tempfile.TemporaryDirectory() as folder:
        for overlay in OVERLAYS:
            documents = run("kubectl", "kustomize", f"deploy/kubernetes/{overlay}").split("\n---\n")
            known = [d for d in documents if not any(f"kind: {kind}\n" in d for kind in OPERATOR)]
            file = Path(folder, f"{overlay}.yaml")
            file.write_text("\n---\n".join(known), encoding="utf-8")
            run("kubernetes-validate", "--strict", str(file))
            run("kubernetes-validate", "--strict", "-k", f"{LEAST_KUBERNETES}.0", str(file))
    versions = f"for Kubernetes {LEAST_KUBERNETES} and the newest"
    return f"{', '.join(OVERLAYS)} are valid {versions}, without a schema: {', '.join(OPERATOR)}"


def report(name: str, check: Callable[[], str]) -> bool:
    """Run a check, print one line, and return False if it failed."""
    try:
        print(f"{name:12} real       {check()}")
    except MissingError as error:
        print(f"{name:12} UNCHECKED  needs {', '.join(missing([str(error)]))}")
    except (AssertionError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stdout", None) or getattr(error, "stderr", None) or ""
        print(f"{name:12} FAILED     {error} {output}")
        return False
    return True


def main() -> int:
    """Run the checks and return the exit status, 1 if one failed or a program is missing."""
    if not can_run("static", STATIC):
        return 1
    checks = (dockerfiles, compose, key, prometheus, kubernetes)
    failed = [check for check in checks if not report(check.__name__, check)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
