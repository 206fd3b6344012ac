"""Lint and render the Helm chart, without a cluster, and check what it renders.

    make helm-check

Every document is checked with the schemas of Kubernetes, of the least version and of the newest.
What chart and kustomize base have in common must be equal.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from serving.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "offramp"
BASE = ROOT / "deploy" / "kubernetes" / "base"
LEAST_KUBERNETES = "1.30.0"
OPERATOR = "ServiceMonitor"  # of the Prometheus Operator: no schema is shipped
Document = dict[str, Any]
GRPC = {"grpc": {"enabled": True}}
CASES: Mapping[str, Document] = {
    "cpu": {},
    "gpu": {"gpu": {"enabled": True}},
    "without a key": {"apiKey": {"existingSecret": ""}},
    "gRPC": GRPC,
    "traces": {"tracing": {"endpoint": "http://collector.monitoring:4317"}},
    "models": {
        "models": {"existingClaim": "offramp-models", "default": "cats", "keepPrevious": True},
        "adminKey": {"existingSecret": "offramp-admin"},
    },
    "models that no call changes": {"models": {"existingClaim": "offramp-models"}},
    "all": {
        **GRPC,
        "bundle": {"existingClaim": "bundles", "path": "/bundles/mine"},
        "tracing": {"endpoint": "http://collector.monitoring:4317", "share": "5%"},
        "promises": {"audit": "1%", "onBroken": "safer"},
        "settings": {
            "OFFRAMP_MAX_IMAGES": "4",
            "OFFRAMP_MAX_BODY_BYTES": 33_554_432,
            "OFFRAMP_BODY_SECONDS": 2.5,
            "OFFRAMP_REBATCH": False,
        },
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "imagePullSecrets": [{"name": "registry"}],
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    },
    "no autoscaling and no policy": {
        "autoscaling": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
}
WRONG: Mapping[str, Document] = {
    "an unknown value": {"gpus": 1},
    "a wrong choice": {"overload": "drop"},
    "a wrong type": {"threads": "many"},
}


def rendered(values: Document) -> dict[str, Document]:
    """Return the documents that the chart renders, by kind."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        manifests = chart.render(values, name="offramp", namespace="vision")
    texts = [text for name, text in manifests.items() if name.endswith(".yaml")]
    documents = [document for text in texts for document in yaml.safe_load_all(text) if document]
    return {document["kind"]: document for document in documents}


def validate(documents: Mapping[str, Document]) -> None:
    """Check documents with the schemas of Kubernetes.

    Raises:
        subprocess.CalledProcessError: One is not valid.
    """
    program = Path(sys.executable).with_name("kubernetes-validate")
    known = [document for kind, document in documents.items() if kind != OPERATOR]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all(known, file)
        file.flush()
        for version in ((), ("-k", LEAST_KUBERNETES)):
            command = [program, "--strict", "--quiet", *version, file.name]
            subprocess.run(command, check=True)


def environment_of(documents: Mapping[str, Document]) -> dict[str, Any]:
    """Return the variables of the server."""
    (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def check_settings(documents: Mapping[str, Document]) -> None:
    """Check that variables are settings with allowed values."""
    found = environment_of(documents)
    values = {name.removeprefix(PREFIX).lower(): value for name, value in found.items() if value}
    assert values.keys() <= Settings.model_fields.keys(), values.keys()
    settings = Settings(**values)
    assert (settings.bundle is None) != (settings.models is None)


def check_like_base(documents: Mapping[str, Document]) -> None:
    """Compare the default with the kustomize base, in what both have."""
    base = yaml.safe_load((BASE / "deployment.yaml").read_text(encoding="utf-8"))
    ours, theirs = (each["spec"]["template"]["spec"] for each in (documents["Deployment"], base))
    (container,), (other,) = ours.pop("containers"), theirs.pop("containers")
    for differs in ("topologySpreadConstraints",):  # the selector has the release too
        assert ours.pop(differs)[0].keys() == theirs.pop(differs)[0].keys()
    assert ours == theirs, (ours, theirs)
    environment = {each["name"] for each in other.pop("env")}
    assert environment <= {each["name"] for each in container.pop("env")}
    assert container.pop("image") == f"{other.pop('image')}:cpu"
    assert container == other, (container, other)
    scaler = yaml.safe_load((BASE / "autoscaling.yaml").read_text(encoding="utf-8"))
    assert documents["HorizontalPodAutoscaler"]["spec"]["behavior"] == scaler["spec"]["behavior"]


def check_cases(found: Mapping[str, Mapping[str, Document]]) -> None:
    """Check what the values of each case change."""
    (gpu,) = found["gpu"]["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["image"] == "offramp-serving:gpu"
    assert "OFFRAMP_API_KEY" in environment_of(found["cpu"])
    assert "OFFRAMP_API_KEY" not in environment_of(found["without a key"])
    ports = [port["name"] for port in found["gRPC"]["Service"]["spec"]["ports"]]
    assert ports == ["http", "grpc"]
    egress = {name: each["NetworkPolicy"]["spec"]["egress"] for name, each in found.items()
              if "NetworkPolicy" in each}  # fmt: skip
    assert egress["cpu"] == []
    assert egress["traces"][0]["ports"][0]["port"] == 4317
    check_models(found)
    metrics = found["cpu"]["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metrics[0]["pods"]["metric"]["name"] == "offramp_queue_depth"
    assert found["no autoscaling and no policy"]["Deployment"]["spec"]["replicas"] == 2
    kinds = found["no autoscaling and no policy"].keys()
    assert not kinds & {"HorizontalPodAutoscaler", "NetworkPolicy"}


def check_models(found: Mapping[str, Mapping[str, Document]]) -> None:
    """Check the volumes of models and of the admin key, and where the server looks for them."""
    for name, volumes in (
        ("cpu", ["tmp"]),
        ("models", ["tmp", "models", "admin-key"]),
        ("models that no call changes", ["tmp", "models"]),
    ):
        pod = found[name]["Deployment"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert [each["name"] for each in pod["volumes"]] == volumes
        places = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert [*places] == volumes
        environment = environment_of(found[name])
        assert environment.get("OFFRAMP_MODELS") == places.get("models")
        key = environment.get("OFFRAMP_ADMIN_KEY_FILE", "").rpartition("/")[0]
        assert key == places.get("admin-key", "")


def check_refusals() -> None:
    """Check that the schema refuses wrong values."""
    for name, values in WRONG.items():
        try:
            rendered(values)
        except helm.HelmError:
            continue
        raise AssertionError(f"{name} is accepted")


def main() -> int:
    """Run all checks, and return the exit status."""
    findings = helm.lint(str(CHART))
    print(f"lint         {findings}")
    found = {name: rendered(values) for name, values in CASES.items()}
    for name, documents in found.items():
        validate(documents)
        check_settings(documents)
        print(f"{name:28} {', '.join(sorted(documents))}")
    check_cases(found)
    check_like_base(rendered({}))
    check_refusals()
    print("the chart passes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
