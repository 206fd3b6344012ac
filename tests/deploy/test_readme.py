from pathlib import Path

import yaml

from serving.models.catalog import Catalog
from serving.models.metrics import CatalogMetrics
from serving.observe.metrics import Metrics
from serving.observe.model import Model

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "README.md").read_text()


def test_all_metrics_are_described() -> None:
    metrics = Metrics(Model("net", "1", "fp32", "cpu", 2, 30, {"low": 20}, {"low": (0.5, 0.5)}, ()))
    metrics.watch(8, 4096, lambda: 0, lambda: 0)
    metrics.watch_ready(lambda: True)
    metrics.registry.register(CatalogMetrics(Catalog))
    for family in metrics.registry.collect():
        if family.name.startswith("offramp"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert f"`{name}`" in TEXT, name


def test_all_alerts_are_described() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    for alert in [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]:
        assert f"| `{alert}` |" in TEXT, alert


def test_all_variables_of_compose_are_described() -> None:
    for variable in yaml.safe_load((DEPLOY / "models.compose.yml").read_text())["x-models"][
        "environment"
    ]:
        assert f"`{variable}`" in TEXT, variable
    compose = (DEPLOY.parent / "docker-compose.yml").read_text()
    named = {word.split("}")[0].split(":-")[0] for word in compose.split("${")[1:]}
    (server,) = {
        tuple(service["environment"])
        for name, service in yaml.safe_load(compose)["services"].items()
        if name.startswith("serving-")
    }
    for variable in named | {*server, "OFFRAMP_API_KEY", "COMPOSE_PROFILES"}:
        assert f"`{variable}`" in TEXT, variable


def test_the_example_of_ray_serves_a_folder_and_can_be_told_to_reload() -> None:
    (application,) = yaml.safe_load((DEPLOY / "ray" / "models.yaml").read_text())["applications"]
    app = (DEPLOY / "ray" / "app.py").read_text()
    assert application["import_path"] == "deploy.ray.app:build"
    for argument in application["args"]:
        assert f"    {argument}: " in app
    (replica,) = application["deployments"]
    assert f"class {replica['name']}:" in app
    assert replica["user_config"].keys() == {"reload"}
    assert "async def reconfigure(self, user_config" in app
