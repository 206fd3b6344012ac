from pathlib import Path
from typing import Any

import yaml
from starlette.routing import Route

from deploy.kubernetes import rules
from serving.http.routes import public
from serving.settings import Settings

BASE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base"


def read(name: str) -> Any:
    return yaml.safe_load((BASE / name).read_text())


POD = read("deployment.yaml")["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]


def test_the_operators_rules_equal_prometheus_rules() -> None:
    assert rules.FILE.read_text() == rules.text(), "run python -m deploy.kubernetes.rules"
    assert yaml.safe_load(rules.text())["spec"] == yaml.safe_load(rules.RULES.read_text())


def test_probes_use_existing_endpoints() -> None:
    probed = {
        SERVER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }
    assert probed == {"/health/live", "/health/ready"}
    assert probed <= {route.path for route in public.routes if isinstance(route, Route)}


def test_requests_in_progress_end_within_the_grace_period() -> None:
    environment = {entry["name"]: entry.get("value") for entry in SERVER["env"]}
    drain = int(environment["OFFRAMP_DRAIN_SECONDS"])
    sleep = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain + sleep < POD["terminationGracePeriodSeconds"]


def test_variables_are_settings() -> None:
    named = {entry["name"].removeprefix("OFFRAMP_").lower() for entry in SERVER["env"]}
    assert named <= Settings.model_fields.keys()


def test_alerts_use_the_services_name_as_job() -> None:
    assert read("service.yaml")["metadata"]["name"] == "offramp"
    assert 'up{job="offramp"}' in rules.text()
