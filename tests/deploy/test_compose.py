import os
import shutil
import subprocess
import sys
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
    assert settings_of(".env") == ["COMPOSE_PROFILES=gpu"]


def settings_of(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("name", SERVERS)
def test_the_key_is_in_an_untracked_file_or_in_the_environment(name: str) -> None:
    ours, inherited = SERVERS[name]["env_file"]
    assert ours == {"path": "deploy/secrets.env", "required": False}
    assert f"/{ours['path']}" in settings_of(".gitignore")
    assert settings_of(inherited["path"]) == ["OFFRAMP_API_KEY"]  # a name without a value
    assert "OFFRAMP_API_KEY" not in SERVERS[name]["environment"]  # would hide the file's value


@pytest.mark.parametrize("name", SERVERS)
def test_variables_are_settings_and_the_grace_period_exceeds_the_drain(name: str) -> None:
    inherited = settings_of(SERVERS[name]["env_file"][1]["path"])
    variables = [*SERVERS[name]["environment"], *inherited]
    assert {v.removeprefix("OFFRAMP_").lower() for v in variables} <= Settings.model_fields.keys()
    grace = int(SERVERS[name]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["drain_seconds"].default


def test_the_gpu_server_gets_exactly_one_gpu() -> None:
    gpu, cpu = (SERVERS[f"serving-{kind}"]["deploy"]["resources"] for kind in ("gpu", "cpu"))
    expected = {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["reservations"]["devices"] == [expected]
    assert "reservations" not in cpu


def test_grpc_is_published_on_loopback_only_by_its_own_file() -> None:
    services = yaml.safe_load((ROOT / "deploy/grpc.compose.yml").read_text())["services"]
    assert services.keys() == SERVERS.keys()
    for service in services.values():
        (port,) = service["ports"]
        assert port.startswith("${OFFRAMP_ADDRESS:-127.0.0.1}:")
        assert port.endswith(f":{service['environment']['OFFRAMP_GRPC_PORT']}")


def test_a_folder_of_models_and_its_admin_key_are_where_the_server_looks_for_them() -> None:
    document = yaml.safe_load((ROOT / "deploy/models.compose.yml").read_text())
    assert document["services"].keys() == SERVERS.keys()
    assert document["secrets"]["admin-key"]["file"].endswith(":-./deploy/admin.key}")
    assert "/deploy/admin.key" in settings_of(".gitignore")
    for service in document["services"].values():
        environment = service["environment"]
        assert {
            v.removeprefix("OFFRAMP_").lower() for v in environment
        } <= Settings.model_fields.keys()
        assert not environment["OFFRAMP_BUNDLE"]  # the image has one
        (volume,) = service["volumes"]
        assert volume["target"] == environment["OFFRAMP_MODELS"]
        assert volume["read_only"]
        assert volume["bind"] == {"create_host_path": False}
        (secret,) = service["secrets"]
        assert environment["OFFRAMP_ADMIN_KEY_FILE"] == f"/run/secrets/{secret}"


def configured(program: str, bundle: str) -> dict[str, object]:
    """Return the mount of the bundle as Compose reads it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OFFRAMP_")}
    ran = subprocess.run(
        [program, "--profile", "cpu", "config"],
        cwd=ROOT,
        env=environment | ({"OFFRAMP_BUNDLE": bundle} if bundle else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    (mount,) = yaml.safe_load(ran.stdout)["services"]["serving-cpu"]["volumes"]
    assert isinstance(mount, dict)
    return mount


@pytest.mark.parametrize(
    ("bundle", "source"),
    [
        ("", ROOT / "deploy/bundles/clothing-lite0"),
        ("bundles/mine", ROOT / "bundles/mine"),
        ("mine", ROOT / "mine"),
        ("./bundles/mine", ROOT / "bundles/mine"),
        ("/bundles/mine", Path("/bundles/mine")),
    ],
)
def test_the_bundle_is_a_path_and_is_not_created(bundle: str, source: Path) -> None:
    for service in SERVERS.values():
        (volume,) = service["volumes"]
        assert volume["type"] == "bind"
        assert volume["bind"] == {"create_host_path": False}
        assert volume["read_only"]
    beside = Path(sys.executable).parent
    program = shutil.which("docker-compose", path=beside) or shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs the extra operations")
    assert configured(program, bundle)["source"] == str(source)
