import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from deploy.grafana.panels import ROWS

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
GROUPS = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
TESTS = ("rules_test.yml", "rules_long_test.yml")
RECORDED = re.compile(r"\b[a-z_]+:offramp_\w+:\w+")


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tests = [yaml.safe_load((FOLDER / name).read_text())["tests"] for name in TESTS]
    cases = [case for test in chain(*tests) for case in test["alert_rule_test"]]
    alerts = {rule["alert"] for rule in RULES if "alert" in rule}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts


def test_series_that_alerts_and_panels_read_are_recorded() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    panels = [text for row in ROWS for panel in row.panels for text, _ in panel.queries]
    read = {name for rule in RULES for name in RECORDED.findall(rule["expr"])}
    assert read | {name for text in panels for name in RECORDED.findall(text)} == recorded


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("test", "rules", *TESTS)],
    ids=lambda command: command[0],
)
def test_promtool_accepts_configuration_and_rules(command: tuple[str, ...]) -> None:
    ran = subprocess.run(
        ["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
