"""Bundles to and from a stand-in for the hub, by the real huggingface_hub."""

from __future__ import annotations

from collections.abc import Iterator
from filecmp import cmpfiles
from pathlib import Path

import pytest

from offramp.cli import main
from offramp.writing import PARTIAL
from tests.docs.documents import ROOT
from tests.offramp.hub.stand_in import Hub, standing_in

NAME = "hf://org/testnet"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Run a stand-in that huggingface_hub takes for the hub, with a cache of its own."""
    constants = "huggingface_hub.constants."
    cache = tmp_path_factory.mktemp("cache")
    with standing_in() as hub, pytest.MonkeyPatch.context() as patch:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(f"{constants}ENDPOINT", hub.url)
        patch.setattr(f"{constants}HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(f"{constants}HF_HUB_OFFLINE", False)
        patch.setattr(f"{constants}HF_HUB_DISABLE_XET", True)
        patch.setattr(f"{constants}HF_HUB_CACHE", str(cache))
        patch.setenv("HF_TOKEN", "hf_test")
        yield hub


@pytest.fixture(scope="module")
def pushed(hub: Hub, bundle: Path) -> dict[str, bytes]:
    """Push a bundle, and return the files that the hub then has."""
    assert main(["push", str(bundle), NAME, "--private"]) == 0
    assert hub.private == {"org/testnet": True}
    return hub.files["org/testnet"]


def test_a_bundle_comes_back_as_it_was(
    pushed: dict[str, bytes], bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundles" / "copy"
    assert main(["pull", NAME, "--out", str(out)]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert set(names) == pushed.keys()
    assert cmpfiles(bundle, out, names, shallow=False) == (names, [], [])
    assert not any(path.is_symlink() for path in out.iterdir())
    assert main(["pull", NAME, "--out", str(out)]) == 1
    assert "exists" in capsys.readouterr().err


def test_what_a_killed_pull_left_is_no_part_of_the_next(
    pushed: dict[str, bytes], tmp_path: Path
) -> None:
    left = tmp_path / f".copy{PARTIAL}"
    left.mkdir()
    (left / "README.md").write_text("of another bundle")
    assert main(["pull", NAME, "--out", str(tmp_path / "copy")]) == 0
    assert {path.name for path in (tmp_path / "copy").iterdir()} == pushed.keys()
    assert not left.exists()


def test_a_file_that_was_changed_on_the_hub_is_refused(
    hub: Hub, pushed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["org/changed"] = pushed | {"stage2.onnx": pushed["stage1.onnx"]}
    assert main(["pull", "hf://org/changed", "--out", str(tmp_path / "copy")]) == 1
    assert "stage2.onnx: its sha256 is not the manifest's" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_damaged_bundle_is_not_pushed(
    hub: Hub, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (damaged / "stage1.onnx").write_bytes(b"?")
    assert main(["push", str(damaged), "hf://org/damaged"]) == 1
    assert "stage1.onnx" in capsys.readouterr().err
    assert "org/damaged" not in hub.files


@pytest.mark.usefixtures("pushed")
def test_a_command_takes_a_bundle_on_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(ROOT / "docs" / "photos" / "shirt.jpg")
    assert main(["classify", picture, "--bundle", NAME]) == 0
    assert "shirt.jpg" in capsys.readouterr().out
    assert main(["classify", picture, "--bundle", "hf://org/none"]) == 1
    assert "hf://org/none" in capsys.readouterr().err
    assert main(["pull", "bundles/mine", "--out", "x"]) == 2
