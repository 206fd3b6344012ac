from dataclasses import replace

import numpy as np

from tests.training.evaluation.test_assessment import FLOPS, drawn
from tests.training.samples import finished_progress
from training.evaluation.assessment import assess
from training.report.figures import budgeted_figure, epochs_figure, reliability_figure, svg


def test_a_figure_is_one_element_without_external_references() -> None:
    drawing = svg(epochs_figure(finished_progress().epochs))
    assert drawing.startswith("<svg")
    assert drawing.rstrip().endswith("</svg>")
    assert 'href="http' not in drawing
    assert drawing.count("<!-- exit ") == 2, "the legend has one curve for each exit"


def test_each_set_and_each_exit_has_axes() -> None:
    assessment = assess(drawn(400, 0), drawn(100, 1), FLOPS)
    drawn_axes = budgeted_figure(assessment, FLOPS).axes
    assert [axes.get_ylabel() for axes in drawn_axes] == [
        *("accuracy, %", "", "agreement with full depth, %", "")
    ]
    without_labels = replace(assessment, pseudo=True)
    assert len(budgeted_figure(without_labels, FLOPS).axes) == 2, "agreement is the accuracy"
    used = [a for a in reliability_figure(assessment.sets[1]).axes if a.axison]
    assert [a.get_title() for a in used] == ["exit 1", "exit 2", "exit 3"]
    after = np.asarray(used[0].lines[2].get_xydata(), dtype=np.float64)
    assert np.all((after >= 0) & (after <= 1))
