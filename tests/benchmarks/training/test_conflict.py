from pathlib import Path

import pytest
import torch

from benchmarks.training.conflict import ALL, Agreement, Batches, agreement, main
from tests.training.families import small_network
from tests.training.samples import finished_progress, source_with_test, untrained_checkpoint
from training.data.images import Images
from training.fit.checkpoint import save_checkpoint
from training.output_folder import CHECKPOINT
from training.surgery.boundary import Surgery

BATCH = Images(
    torch.randint(
        256, (6, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    ),
    torch.arange(6),
)


def test_cosines_are_those_of_gradients_of_parameters_that_both_exits_reach() -> None:
    network, twin = small_network("vit"), small_network("vit").train()
    found = agreement(network, [BATCH, BATCH]).cosines
    assert found.shape == (2, 3), "two batches, three pairs"
    torch.testing.assert_close(found[0], found[1])  # nothing was updated
    gradients = []
    for k in range(3):
        twin.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            twin(twin.normalize(BATCH.pixels))[k], BATCH.targets
        )
        loss.backward()
        gradients.append([p.grad for p in twin.stages.parameters() if p.grad is not None])
    for place, (shallow, deep) in enumerate([(0, 1), (0, 2), (1, 2)]):
        reached = len(list(twin.stages[: shallow + 1].parameters()))
        flat = [torch.cat([g.flatten() for g in gradients[k][:reached]]) for k in (shallow, deep)]
        expected = torch.dot(*flat) / (flat[0].norm() * flat[1].norm())
        assert float(found[0, place]) == pytest.approx(float(expected), abs=1e-4)


def test_ratios_are_those_of_the_lengths_of_gradients() -> None:
    network = small_network("vit")
    network.surgery = Surgery("paper", 0.0)
    once = agreement(network, [BATCH])
    with torch.no_grad():
        head = network.heads[1].get_submodule("linear")
        for parameter in head.parameters():
            parameter.zero_()
    none = agreement(network, [BATCH])
    assert none.ratios[0, 0] == 0, "the second exit has no gradient"
    torch.testing.assert_close(none.ratios[0, 1], once.ratios[0, 1])
    assert once.ratios[0, 1] > 0, "surgery is left out"


def test_the_mean_and_the_share_of_negative_cosines_are_printed() -> None:
    cosines, ratios = torch.tensor([[0.5, -0.25], [0.5, 0.25]]), torch.tensor([[4.0, 1], [2, 2]])
    assert str(Agreement(cosines, ratios)) == "+0.250    25.0 %     2.00"


def test_images_of_a_class_are_measured_alone() -> None:
    progress = finished_progress()
    groups = Batches(None, 2, 3).of_run(progress)
    assert list(groups) == [ALL, *progress.labels[:3]]
    assert [len(group) for group in groups.values()] == [2, 1, 1, 1]
    for number, label in enumerate(progress.labels[:3]):
        assert (groups[label][0].targets == number).all()


def test_the_command_measures_all_seeds_of_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    source = source_with_test(tmp_path / "images")
    for seed in (0, 1):
        folder = tmp_path / "joint" / f"seed{seed}"
        folder.mkdir(parents=True)
        save_checkpoint(folder / CHECKPOINT, untrained_checkpoint(finished_progress()))
    command = ["--runs", str(tmp_path), "--data", source, "--batches", "1", "--rows", "joint"]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in printed[1:]] == [
        ["joint", f"seed{seed}", epoch, "all"] for seed in (0, 1) for epoch in ("0", "2")
    ]
    assert main([*command, "dfs-released"]) == 1
    assert "there is no dfs-released/seed*" in capsys.readouterr().err
