"""Write the rules as a resource of the Prometheus Operator: `python -m deploy.kubernetes.rules`."""

from __future__ import annotations

from pathlib import Path

RULES = Path(__file__).parents[1] / "prometheus" / "rules.yml"
FILE = Path(__file__).parent / "monitoring" / "rules.yaml"
HEADER = """\
# Made from deploy/prometheus/rules.yml by `python -m deploy.kubernetes.rules`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: offramp
spec:
"""


def text() -> str:
    """Return the resource, with the text of the rules indented by two columns."""
    _, groups = RULES.read_text(encoding="utf-8").split("\ngroups:\n")
    lines = ["groups:", *groups.splitlines()]
    return HEADER + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
