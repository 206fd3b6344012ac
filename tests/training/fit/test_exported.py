"""The average of the weights, and the weights of the best epoch."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from tests.training.families import small_network
from tests.training.samples import tiny_dataset, tiny_progress
from training.data.images import Images
from training.fit.checkpoint import Epoch, load_checkpoint
from training.fit.early_stop import best_epoch, is_exhausted
from training.fit.exported import update_average
from training.fit.loop import fit
from training.fit.trainer import Trainer
from training.networks.predict import predict

CPU = torch.device("cpu")


def untracked(batches: Iterable[Images], _: int) -> Iterable[Images]:
    return batches


def held_out_accuracies(trainer: Trainer) -> list[float]:
    held_out = tiny_dataset().held_out
    right = predict(trainer.exported_network(), held_out.pixels).argmax(-1) == held_out.targets
    return [float(share) for share in right.double().mean(-1)]


def epochs(*accuracies: float) -> list[Epoch]:
    return [
        Epoch(number=n, loss=1, accuracies=(one - 0.1, one + 0.1), seconds=1)
        for n, one in enumerate(accuracies, 1)
    ]


def test_the_average_is_that_of_weights_and_statistics() -> None:
    averaged, network = small_network("vgg"), small_network("vgg")
    before = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.add_(1)
    update_average(averaged, network, decay=0.8, steps=1000)
    for name, tensor in averaged.state_dict().items():
        counted = "num_batches_tracked" in name
        expected = before[name] + 1 if counted else before[name] + 0.2
        torch.testing.assert_close(tensor, expected, msg=name)


def test_the_decay_is_lower_in_the_first_steps() -> None:
    averaged, network = small_network("vgg"), small_network("vgg")
    torch.nn.init.zeros_(weight := averaged.stages[0].get_parameter("layers.0.weight"))
    torch.nn.init.ones_(network.stages[0].get_parameter("layers.0.weight"))
    update_average(averaged, network, decay=0.999, steps=1)
    torch.testing.assert_close(weight, torch.full_like(weight, 1 - 2 / 11))


def test_the_average_is_evaluated_and_exported_and_does_not_change_training() -> None:
    plain = Trainer(tiny_progress(), tiny_dataset(), CPU)
    averaging = Trainer(tiny_progress(ema=0.9), tiny_dataset(), CPU)
    assert plain.run_epoch(untracked).loss == averaging.run_epoch(untracked).loss
    epoch = averaging.progress.epochs[-1]
    assert held_out_accuracies(averaging) == pytest.approx(epoch.accuracies)
    trained = {n: t.clone() for n, t in plain.network.state_dict().items()}
    assert all(torch.equal(trained[n], t) for n, t in averaging.network.state_dict().items())
    exported = averaging.checkpoint().weights
    assert not torch.equal(exported["heads.0.linear.weight"], trained["heads.0.linear.weight"])
    state = averaging.checkpoint().training_state
    assert all(torch.equal(state[f"current/{n}"], t) for n, t in trained.items())


def test_the_best_epoch_is_the_first_with_the_highest_mean_accuracy() -> None:
    assert best_epoch(epochs(0.2, 0.4, 0.3, 0.4)).number == 2


@pytest.mark.parametrize(
    ("accuracies", "patience", "exhausted"),
    [
        ((), 1, False),
        ((0.5,), 1, False),
        ((0.5, 0.4), 1, True),
        ((0.5, 0.5), 1, True),
        ((0.5, 0.4), 2, False),
        ((0.5, 0.4, 0.6, 0.5), 2, False),
        ((0.5, 0.4, 0.3), 2, True),
        ((0.5, 0.4, 0.3), 0, False),
    ],
)
def test_a_run_is_exhausted_after_as_many_epochs_as_its_patience(
    accuracies: tuple[float, ...], patience: int, *, exhausted: bool
) -> None:
    assert is_exhausted(epochs(*accuracies), patience) == exhausted


def test_an_early_stop_keeps_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    """With this rate no epoch changes a prediction much, so a few epochs are not better."""
    trainer = Trainer(tiny_progress(patience=2, epochs=30, lr=1e-7), tiny_dataset(), CPU)
    fit(trainer, tmp_path / "c", resume=False, track=untracked, report=lambda _: None)
    found = trainer.progress.epochs
    best = best_epoch(found)
    assert len(found) == best.number + 2 < 30
    assert held_out_accuracies(trainer) == pytest.approx(best.accuracies)
    saved = load_checkpoint(tmp_path / "c")
    weights = trainer.exported_network().state_dict()
    assert all(torch.equal(saved.weights[n], t) for n, t in weights.items())
    again = Trainer(tiny_progress(patience=2, epochs=30, lr=1e-7), tiny_dataset(), CPU)
    fit(again, tmp_path / "c", resume=True, track=untracked, report=lambda _: None)
    assert len(again.progress.epochs) == len(found), "a finished run is not continued"
