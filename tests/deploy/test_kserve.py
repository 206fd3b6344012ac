"""The runtime for KServe, which looks for certain names."""

from __future__ import annotations

from pathlib import Path

import yaml

from serving.settings import Settings

KSERVE = Path(__file__).parents[2] / "deploy" / "kserve"
RUNTIME = yaml.safe_load((KSERVE / "runtime.yaml").read_text())
(CONTAINER,) = RUNTIME["spec"]["containers"]
ENVIRONMENT = {each["name"]: each["value"] for each in CONTAINER["env"]}


def test_the_container_has_the_name_and_the_folder_that_kserve_expects() -> None:
    assert CONTAINER["name"] == "kserve-container"
    assert ENVIRONMENT["OFFRAMP_BUNDLE"] == "/mnt/models"
    assert RUNTIME["spec"]["protocolVersions"] == ["v2"]


def test_port_and_probes_are_those_of_the_server() -> None:
    (port,) = CONTAINER["ports"]
    assert str(port["containerPort"]) == ENVIRONMENT["OFFRAMP_PORT"]
    for kind, path in (("startup", "ready"), ("readiness", "ready"), ("liveness", "live")):
        probe = CONTAINER[f"{kind}Probe"]["httpGet"]
        assert probe == {"path": f"/health/{path}", "port": port["containerPort"]}


def test_variables_are_settings() -> None:
    named = {name.removeprefix("OFFRAMP_").lower() for name in ENVIRONMENT}
    assert named <= Settings.model_fields.keys()


def test_the_service_uses_the_runtime() -> None:
    service = yaml.safe_load((KSERVE / "service.yaml").read_text())
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    (known,) = RUNTIME["spec"]["supportedModelFormats"]
    assert model["modelFormat"]["name"] == known["name"]
