"""Parts of `deploy/check` that need no Prometheus and no Podman."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.check import prometheus
from deploy.check.dashboard import is_counted, legend, panels
from deploy.check.loopback import bad, differences, good
from deploy.check.picture.layout import places
from deploy.check.picture.panels import written
from deploy.check.programs import (
    CONTAINERS,
    DEPLOY,
    LOOPBACK,
    PROXY,
    RAY,
    SOURCES,
    STATIC,
    before_environment,
    can_run,
    missing,
)
from deploy.check.prometheus import NO_SERVER, Prometheus, Series
from deploy.check.samples import ROOT
from deploy.check.traffic import Count, label

BUDGETS = ["low", "medium", "full", "numeric"]


def test_expressions_contain_no_variable() -> None:
    shown = list(panels(BUDGETS))
    expressions = [expression for panel in shown for expression, _ in panel.queries]
    assert len(expressions) > 40
    assert not any("$" in expression for expression in expressions)
    assert [p.title for p in shown if "low" in p.title and "medium" not in p.title]


def test_repeated_panels_move_the_others_down() -> None:
    taken: set[tuple[int, int]] = set()
    for _, place in places(list(panels(BUDGETS))):
        cells = {
            (x, y)
            for x in range(int(place.x), int(place.x + place.width))
            for y in range(int(place.y), int(place.y + place.height))
        }
        assert not cells & taken
        taken |= cells
    assert max(x for x, _ in taken) == 23


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.123, "percentunit", "12.3 %"),
        (0.0025, "s", "2.5 ms"),
        (2, "s", "2 s"),
        (35.6e6, "si: flops", "35.6 Mflops"),
        (0, "short", "0"),
        (3 << 20, "bytes", "3 MiB"),
        (7.1, "reqps", "7.1 req/s"),
        (float("nan"), "short", "-"),
    ],
)
def test_numbers_are_formatted_as_in_grafana(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_labels_are_filled_into_a_legend() -> None:
    assert legend("exit {{exit}} of {{budget}}", Series({"exit": "2"}, (), ())) == "exit 2 of "


def test_only_metrics_of_devices_are_looked_up_before_they_are_needed() -> None:
    nothing = Prometheus(NO_SERVER)
    assert is_counted(nothing, "rate(offramp_shadow_total[20s]) / offramp_model_share", 0, 1)
    with pytest.raises(httpx.ConnectError):
        is_counted(nothing, "rate(offramp_energy_joules_total[20s])", 0, 1)


def test_requests_are_counted_under_the_servers_labels() -> None:
    assert [label({"budget": budget}) for budget in ("low", "40%")] == ["low", "numeric"]
    assert label({"min_confidence": "0.9"}) == "min_confidence"
    assert {call.query["budget"] for call in good([b"a", b"b"])} == {"low", "medium", "full"}
    assert {call.query["budget"] for call in bad(b"a")} >= {"cheap"}


def test_differences_name_the_counts_of_client_and_server() -> None:
    count = Count()
    count.exits["low", "1"] += 2
    assert differences({("low", "1"): 2.0}, count) == []
    count.exits["low", "2"] += 1
    (line,) = differences({("low", "1"): 2.0}, count)
    assert line == "('low', '2'): PromQL 0, client 1"


def test_only_the_target_differs_from_the_shipped_prometheus_configuration() -> None:
    shipped = yaml.safe_load((prometheus.FOLDER / "prometheus.yml").read_text())
    checked = prometheus.configuration("127.0.0.1:1")
    assert checked["global"] == shipped["global"]
    (job,), (shipped_job,) = checked["scrape_configs"], shipped["scrape_configs"]
    assert job["job_name"] == shipped_job["job_name"]


@pytest.mark.parametrize("needed", [STATIC, PROXY, LOOPBACK, CONTAINERS, RAY, DEPLOY])
def test_what_is_missing_is_named_with_the_way_to_get_it(
    needed: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("deploy.check.programs.FOLDERS", (tmp_path,))
    monkeypatch.setattr("os.geteuid", lambda: 1)
    assert len(missing(needed)) == len(needed)
    assert not can_run("a check", needed)
    said = capsys.readouterr().out
    assert all(f"{name} ({SOURCES[name]})" in said for name in needed)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for name in needed:
        (tmp_path / name).touch(mode=0o700)
    assert can_run("a check", needed)
    (tmp_path / needed[0]).unlink()
    assert missing(needed) == [f"{needed[0]} ({SOURCES[needed[0]]})"]


APT = "apt-get install "


def packages(target: str) -> set[str]:
    """Return the packages of the system that a target of make needs."""
    sources = [SOURCES[name] for name in before_environment(target)]
    return {source.removeprefix(APT) for source in sources if source.startswith(APT)}


def recipe(target: str) -> tuple[str, list[str]]:
    """Return the comment above a target of make, and its recipe."""
    text = (ROOT / "Makefile").read_text()
    found = re.search(rf"((?:^#.*\n)+){target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert found
    return found[1], found[2].splitlines()


@pytest.mark.parametrize("target", ["deploy", "ray"])
def test_makefile_and_readme_name_every_package_of_the_system(target: str) -> None:
    comment, _ = recipe(f"{target}-check")
    (line,) = [line for line in comment.splitlines() if APT in line]
    assert set(line.partition(APT)[2].split()) == packages(target)
    readme = (ROOT / "deploy" / "README.md").read_text()
    named = [set(line.split()) for line in re.findall(rf"{APT}(.*)", readme)]
    assert packages(target) in named


@pytest.mark.parametrize("target", ["deploy", "ray"])
def test_a_recipe_checks_the_programs_before_it_makes_an_environment(target: str) -> None:
    _, lines = recipe(f"{target}-check")
    assert lines[0] == f"\t@$(PYTHON) -m deploy.check.programs {target}"
    assert not re.search(rf"^{target}-check: *\S", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (("deploy.check.programs", "deploy"), "git"),
        (("deploy.check",), "git"),
        (("deploy.check.ray",), "ip"),
    ],
    ids=str,
)
def test_missing_programs_are_named_without_any_installed_package(
    module: tuple[str, ...], named: str
) -> None:
    """`-S` hides all packages but the standard library, so that no slow import comes first."""
    run = "import sys; from deploy.check import programs; programs.FOLDERS = (); "
    run += (
        f"sys.argv = {[*module]}; import runpy; runpy.run_module({module[0]!r}, {{}}, '__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", run],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    assert f"{named} ({SOURCES[named]})" in ran.stdout
    assert not ran.stderr
