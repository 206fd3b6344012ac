"""The chart, without Helm. `make helm-check` renders it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import offramp
from serving.settings import Settings

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "offramp"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TEMPLATES = "".join(path.read_text() for path in (CHART / "templates").iterdir())


def check(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
    """Compare the names of values with those of the schema."""
    closed = schema.get("additionalProperties") is False
    known = set(schema.get("properties", ())) - {"global"}
    assert not closed or values.keys() == known, path
    for name, value in values.items():
        if isinstance(value, dict) and name in known:
            check(value, schema["properties"][name], f"{path}.{name}")


def test_the_schema_knows_each_value() -> None:
    check(VALUES, SCHEMA, "values")


def test_each_value_is_used() -> None:
    for name in VALUES:
        assert re.search(rf"\.Values\.{name}\b", TEMPLATES), name


def test_the_app_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == offramp.__version__


def test_variables_are_settings() -> None:
    named = {name.lower() for name in re.findall(r"name: OFFRAMP_([A-Z_]+)", TEMPLATES)}
    assert {"bundle", "audit", "grpc_port", "otlp_endpoint", "api_key"} <= named
    assert {"models", "default_model", "keep_previous", "admin_key_file"} <= named
    assert named <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", ["drain_seconds", "slots", "overload", "on_broken"])
def test_defaults_are_those_of_the_server(name: str) -> None:
    given = {
        "drain_seconds": VALUES["drainSeconds"],
        "slots": VALUES["slots"],
        "overload": VALUES["overload"],
        "on_broken": VALUES["promises"]["onBroken"],
    }
    assert given[name] == Settings.model_fields[name].default
