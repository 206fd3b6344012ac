from pathlib import Path

import pytest
import yaml

from serving.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SERVERS = {name: service for name, service in SERVICES.items() if name.startswith("serving-")}


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened_limited_and_published_on_loopback(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]
    assert service["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    (port,) = service["ports"]
    assert "127.0.0.1" in port


def test_each_profile_has_one_server_with_the_same_network_name() -> None:
    assert {name: service["profiles"] for name, service in SERVERS.items()} == {
        "serving-gpu": ["gpu"],
        "serving-cpu": ["cpu"],
    }
    for service in SERVERS.values():
        assert service["networks"]["default"]["aliases"] == ["serving"]
    assert "COMPOSE_PROFILES=gpu" in (ROOT / ".env").read_text().splitlines()


@pytest.mark.parametrize("name", SERVERS)
def test_variables_are_settings_and_the_grace_period_exceeds_the_drain(name: str) -> None:
    variables = SERVERS[name]["environment"]
    assert {v.removeprefix("OFFRAMP_").lower() for v in variables} <= Settings.model_fields.keys()
    grace = int(SERVERS[name]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["drain_seconds"].default


def test_the_gpu_server_gets_exactly_one_gpu() -> None:
    gpu, cpu = (SERVERS[f"serving-{kind}"]["deploy"]["resources"] for kind in ("gpu", "cpu"))
    expected = {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["reservations"]["devices"] == [expected]
    assert "reservations" not in cpu
