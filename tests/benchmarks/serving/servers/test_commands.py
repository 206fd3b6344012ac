"""Commands of the servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.peers.settings import BUNDLE, GRAPH, WORKERS
from benchmarks.serving.servers import commands as servers
from benchmarks.serving.servers.commands import EQUAL, FULL_DEPTH, PEERS, Target, ours, peers
from offramp.cores import cores

TARGET = Target(Path("bundle"), Path("graph.onnx"), ("medium", "full"), "28487041")
EVERYWHERE = {"ray", "kserve"}  # have no option for the address


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENTS", tmp_path)
    for peer in FULL_DEPTH.values():
        (tmp_path / peer.package / "bin").mkdir(parents=True)


def test_installed_peers_are_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENTS", tmp_path)
    without = {server.name for server in peers(TARGET, isolated=True)}
    assert without == {"fastapi", "naive", "bare"}
    (tmp_path / "mlserver" / "bin").mkdir(parents=True)
    assert {server.name for server in peers(TARGET, isolated=True)} - without == {"mlserver"}


@pytest.mark.usefixtures("installed")
def test_peers_that_listen_on_all_addresses_run_in_isolation_only() -> None:
    alone = {server.name for server in peers(TARGET, isolated=True)}
    beside_others = {server.name for server in peers(TARGET, isolated=False)}
    assert alone - beside_others == EVERYWHERE


@pytest.mark.usefixtures("installed")
def test_every_peer_gets_the_model_and_one_worker_per_core() -> None:
    for server in peers(TARGET, isolated=True):
        assert server.environment[BUNDLE] == str(Path("bundle").resolve())
        assert server.environment[GRAPH] == str(Path("graph.onnx").resolve())
        assert server.environment[WORKERS] == str(cores())
    assert f"--workers={cores()}" in ours(TARGET).command


def test_every_peer_has_a_module_requirements_and_an_entry_in_the_makefile() -> None:
    makefile = Path("Makefile").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in makefile if line.startswith("PEERS ")]
    assert line.split(":=")[1].split() == [peer.package for peer in FULL_DEPTH.values()]
    for peer in FULL_DEPTH.values():
        (module,) = [part for part in peer.command if part.startswith(PEERS)]
        name = module.partition(":")[0].replace(".", "/") + ".py"
        assert Path(name).is_file()
        pinned = Path(f"requirements/peers/{peer.package}.txt").read_text(encoding="utf-8")
        assert any(line.startswith(peer.package) and "==" in line for line in pinned.splitlines())


@pytest.mark.usefixtures("installed")
def test_triton_requests_have_the_header_it_needs() -> None:
    needed = {server.name: server.headers for server in peers(TARGET, isolated=True)}
    assert needed.pop("triton") == {"Inference-Header-Content-Length": "0"}
    assert not any(needed.values())


def test_early_exit_servers_have_a_path_for_the_equal_budget() -> None:
    (naive,) = (server for server in peers(TARGET, isolated=False) if server.name == "naive")
    for server in (ours(TARGET), naive):
        assert server.paths[EQUAL].endswith("?budget=28487041")
        assert server.paths["medium"].endswith("?budget=medium")
