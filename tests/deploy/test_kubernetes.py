from pathlib import Path

import yaml

from deploy.kubernetes import rules
from serving.http.routes import public
from serving.settings import Settings

BASE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base"


def read(name):
    return yaml.safe_load((BASE / name).read_text())


POD = read("deployment.yaml")["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]


def test_the_operators_rules_are_prometheus_rules() -> None:
    assert rules.FILE.read_text() == rules.text(), "run python -m deploy.kubernetes.rules"
    assert yaml.safe_load(rules.text())["spec"] == yaml.safe_load(rules.RULES.read_text())


def test_probes_ask_endpoints_that_there_are() -> None:
    asked = {
        SERVER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }
    assert asked == {"/health/live", "/health/ready"}
    assert asked <= {route.path for route in public.routes}


def test_calls_under_way_end_within_the_grace_period() -> None:
    environment = {entry["name"]: entry.get("value") for entry in SERVER["env"]}
    drain = int(environment["OFFRAMP_DRAIN_SECONDS"])
    sleep = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain + sleep < POD["terminationGracePeriodSeconds"]


def test_every_variable_is_a_setting() -> None:
    named = {entry["name"].removeprefix("OFFRAMP_").lower() for entry in SERVER["env"]}
    assert named <= Settings.model_fields.keys()


def test_alerts_know_the_job_by_the_services_name() -> None:
    assert read("service.yaml")["metadata"]["name"] == "offramp"
    assert 'up{job="offramp"}' in rules.text()
