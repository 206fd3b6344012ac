import re
from pathlib import Path
from typing import Any

import yaml
from starlette.routing import Route

from deploy.check.static import LEAST_KUBERNETES
from deploy.kubernetes import rules
from serving.http.routes import public
from serving.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"


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


def test_the_bound_of_evictions_is_for_the_servers_pods() -> None:
    # kustomize adds no selector to a resource of this kind, and without one it is for no pod
    selector = read("disruption.yaml")["spec"]["selector"]
    assert selector == read("network.yaml")["spec"]["podSelector"]


def test_alerts_use_the_services_name_as_job() -> None:
    (job,) = re.findall(r'up{job=~"([^"]+)"}', rules.text())
    assert re.fullmatch(job, read("service.yaml")["metadata"]["name"])


def test_pods_need_the_secret_of_the_key() -> None:
    (key,) = [entry for entry in SERVER["env"] if entry["name"] == "OFFRAMP_API_KEY"]
    assert key["valueFrom"] == {"secretKeyRef": {"name": "offramp", "key": "api-key"}}


def test_calls_come_from_named_sources_and_the_server_opens_no_connection() -> None:
    policy = read("network.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert {"podSelector": {}} in rule["from"]
    assert {} not in rule["from"]
    (port,) = rule["ports"]
    assert port["port"] in {each["name"] for each in SERVER["ports"]}


def test_metrics_are_read_from_the_namespace_of_monitoring_alone() -> None:
    policy = read("../monitoring/network.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress"]  # a rule of the other kind would allow or deny more
    assert policy["podSelector"] == read("network.yaml")["spec"]["podSelector"]
    ((source,),) = [rule["from"] for rule in policy["ingress"]]
    assert source["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "monitoring"
    }
    assert source["podSelector"]["matchLabels"]


def test_a_folder_of_models_and_its_admin_key_are_mounted_where_the_server_looks_for_them() -> None:
    patch = read("../models/models.yaml")["spec"]["template"]["spec"]
    (container,) = patch["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    names = {name.removeprefix("OFFRAMP_").lower() for name in environment}
    assert names <= Settings.model_fields.keys()
    assert not environment["OFFRAMP_BUNDLE"]  # the image has one
    places = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert environment["OFFRAMP_MODELS"] == places["models"]
    folder, _, file = environment["OFFRAMP_ADMIN_KEY_FILE"].rpartition("/")
    assert folder == places["admin-key"]
    models, key = patch["volumes"]
    assert models["persistentVolumeClaim"]["readOnly"]
    assert key["secret"]["secretName"] != "offramp"
    readme = (DEPLOY / "README.md").read_text()
    assert f"secret generic {key['secret']['secretName']} --from-literal={file}=" in readme


def test_the_readme_names_the_least_version_of_kubernetes() -> None:
    assert f"Kubernetes {LEAST_KUBERNETES} or newer" in (DEPLOY / "README.md").read_text()


def test_every_manifest_is_in_its_kustomization() -> None:
    for folder in ("base", "monitoring", "models"):
        kustomization = read(f"../{folder}/kustomization.yaml")
        patches = [patch["path"] for patch in kustomization.get("patches", ())]
        named = [*kustomization["resources"], *patches]
        files = {path.name for path in (DEPLOY / "kubernetes" / folder).glob("*.yaml")}
        assert files - {"kustomization.yaml"} == {name for name in named if "/" not in name}
