import csv
from pathlib import Path

from samples import tiny_progress

from training.checkpoint import Epoch
from training.report import write_report


def test_log_and_curves(tmp_path: Path) -> None:
    epochs = [Epoch(number=n, loss=3 - n, accuracies=(0.1 * n, 0.2 * n), seconds=1) for n in (1, 2)]
    write_report(tmp_path, tiny_progress().model_copy(update={"epochs": tuple(epochs)}))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["accuracy_exit_2"] for row in rows] == ["0.2", "0.4"]
    drawn = (tmp_path / "accuracy.svg").read_text()
    assert drawn.count("<!-- exit ") == 2, "a curve in the legend for each exit"
