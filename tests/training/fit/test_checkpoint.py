import hashlib
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from tests.training.samples import tiny_progress
from training.errors import CheckpointError
from training.fit.checkpoint import (
    FORMAT,
    Checkpoint,
    Progress,
    load_checkpoint,
    load_progress,
    new_network,
    save_checkpoint,
)


def tiny_checkpoint() -> Checkpoint:
    progress = tiny_progress()
    torch.manual_seed(0)
    network = new_network(progress.recipe, 10)
    return Checkpoint(
        progress, network.state_dict(), {"bargain": torch.ones(2)}, {"0/1": torch.arange(3.0)}
    )


def test_a_checkpoint_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    saved = tiny_checkpoint()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded.progress == saved.progress
    assert torch.equal(loaded.optimizers["0/1"], torch.arange(3.0))
    for name, tensor in loaded.network().state_dict().items():
        assert torch.equal(tensor, saved.weights[name])
    assert not loaded.network().training
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_tensors_of_every_dtype_are_restored(tmp_path: Path) -> None:
    given = {
        "bf16": torch.randn(3, 2).bfloat16(),
        "float8": torch.randn(4).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "bool": torch.tensor([True, False]),
    }
    saved = replace(tiny_checkpoint(), optimizers=given)
    save_checkpoint(tmp_path / "c", saved)
    found = load_checkpoint(tmp_path / "c").optimizers
    assert found.keys() == given.keys()
    assert all(found[name].dtype == one.dtype for name, one in given.items())
    assert all(torch.equal(found[name].double(), one.double()) for name, one in given.items())


def test_the_checksum_equals_that_of_earlier_versions(tmp_path: Path) -> None:
    saved = tiny_checkpoint()
    save_checkpoint(tmp_path / "c", saved)
    tensors = {f"weights/{name}": one for name, one in saved.weights.items()}
    tensors |= {"objective/bargain": torch.ones(2), "optimizers/0/1": torch.arange(3.0)}
    digest = hashlib.sha256(saved.progress.model_dump_json().encode())
    for name, one in sorted(tensors.items()):
        digest.update(f"{name} {one.dtype} {tuple(one.shape)}\n".encode() + one.numpy().tobytes())
    with safe_open(tmp_path / "c", framework="pt") as file:
        assert file.metadata()["sha256"] == digest.hexdigest()


def assert_rejected(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    loads: tuple[Callable[[Path], object], ...] = (load_checkpoint, load_progress)
    for load in loads:
        with pytest.raises(CheckpointError, match=message) as error:
            load(path)
        assert str(error.value).startswith(f"{path}: ")


def test_other_files_are_rejected_with_their_path(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        load_checkpoint(path)
    for content in (b"", b"no checkpoint", bytes(100)):
        assert_rejected(path, content, "cannot be read")
    save_file({"w": torch.ones(2)}, path)
    assert_rejected(path, path.read_bytes(), "not a checkpoint that")
    save_file({"w": torch.ones(2)}, path, {"format": "pt"})
    assert_rejected(path, path.read_bytes(), "not a checkpoint that")
    save_file({"w": torch.ones(2)}, path, {"format": FORMAT, "progress": "{}"})
    assert_rejected(path, path.read_bytes(), "header is damaged")


class Tripwire:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_is_rejected_and_not_executed(tmp_path: Path) -> None:
    path, executed = tmp_path / "c.safetensors", tmp_path / "executed"
    pickled = pickle.dumps(Tripwire(executed))
    assert_rejected(path, pickled, "cannot be read")
    torch.save({"weights": Tripwire(executed)}, path)
    assert_rejected(path, path.read_bytes(), "cannot be read")
    assert not executed.exists()
    pickle.loads(pickled)
    assert executed.exists(), "the tripwire works"


@pytest.mark.parametrize("length", [10**8 + 1, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_absurd_length_is_rejected(tmp_path: Path, length: int) -> None:
    content = length.to_bytes(8, "little") + b'{"__metadata__":{}}'
    assert_rejected(tmp_path / "c.safetensors", content, "cannot be read")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "c.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.5, 0.9999])
def test_a_truncated_checkpoint_is_rejected(tmp_path: Path, whole: bytes, share: float) -> None:
    assert_rejected(tmp_path / "c.safetensors", whole[: int(len(whole) * share)], "cannot be read")


@given(st.floats(0, 1, exclude_max=True), st.booleans(), st.integers(0, 7))
def test_a_flipped_bit_is_detected_or_has_no_effect(
    whole: bytes, where: float, in_header: bool, bit: int
) -> None:
    """A flip has no effect in the names of metadata that the reader does not use."""
    extent = 8 + int.from_bytes(whole[:8], "little") if in_header else len(whole)
    content = bytearray(whole)
    content[int(where * extent)] ^= 1 << bit
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            loaded = load_checkpoint(Path(file.name))
        except CheckpointError:
            return
    intact = tiny_checkpoint()
    assert loaded.progress == intact.progress
    for one, other in (
        (loaded.weights, intact.weights),
        (loaded.objective, intact.objective),
        (loaded.optimizers, intact.optimizers),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_progress_is_read_without_the_tensors(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert load_progress(path) == tiny_progress()
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path)


def test_a_checkpoint_without_checksum_is_read(tmp_path: Path, whole: bytes) -> None:
    """Earlier versions wrote no checksum."""
    path = tmp_path / "c.safetensors"
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as file:
        metadata = {name: file.metadata()[name] for name in ("format", "progress")}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata)
    assert load_checkpoint(path).progress == tiny_progress()


def test_weights_of_another_network_are_rejected() -> None:
    checkpoint = tiny_checkpoint()
    del checkpoint.weights["heads.0.linear.bias"]
    with pytest.raises(CheckpointError, match=r"heads\.0\.linear\.bias"):
        checkpoint.network()


def as_in_version_0_1(progress: Progress) -> Progress:
    """Return the progress as it is read from a file that has no way of splitting."""
    fields = progress.model_dump(mode="json")
    del fields["recipe"]["held_out_split"]
    return Progress.model_validate_json(json.dumps(fields))


def test_a_checkpoint_of_version_0_1_keeps_its_random_split() -> None:
    old = as_in_version_0_1(tiny_progress())
    assert (old.recipe.held_out_split, old.recipe.held_out) == ("random", 100)
    again = Progress.model_validate_json(old.model_dump_json())
    assert again == old
    new = Progress.model_validate_json(tiny_progress().model_dump_json())
    assert new.recipe.held_out_split == "by_class"


def test_a_run_of_version_0_1_is_continued_with_its_split() -> None:
    old = as_in_version_0_1(tiny_progress(held_out=5000)).recipe
    for held_out in (None, 5000):
        given = tiny_progress(held_out=held_out).recipe
        assert given.continuing(old) == old
    assert tiny_progress(held_out=7).recipe.continuing(old).held_out == 7
    new = tiny_progress().recipe
    assert new.continuing(new) == new
