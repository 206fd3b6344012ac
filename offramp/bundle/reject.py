"""The record `reject` of a manifest: scores that tell pictures of the classes from others.

Each exit has a score, higher for pictures of the classes. An answer is rejected if the score of the
exit that it left at is below the threshold of that exit.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from offramp.bundle.values import FrozenRecord

ScoreName = Literal["energy", "max_logit", "confidence"]
Share = Annotated[float, Field(ge=0, le=1)]


class Auroc(FrozenRecord):
    """Area under the ROC curve: pictures of the classes against photos of other things.

    The probability that a picture of the classes has the higher score. `low` and `high` are its
    95 % confidence interval.
    """

    value: Share
    low: Share
    high: Share


class RejectExit(FrozenRecord):
    """The threshold of one exit, and what it does."""

    threshold: float = Field(description="an answer with a score below it is rejected")
    auroc: Auroc
    false_reject: Share = Field(
        description="share of held-out images rejected, by thresholds fitted on other ones"
    )
    caught: Share = Field(description="share of the photos of other things that are rejected")


class RejectBudget(FrozenRecord):
    """Effect of the thresholds at a budget, where images leave at different exits."""

    false_reject: Share = Field(
        description="share of held-out images rejected, by thresholds fitted on other ones"
    )
    caught: Share = Field(description="share of the photos of other things that are rejected")


class Reject(FrozenRecord):
    """The score by which answers are rejected, and its thresholds.

    The scores are functions of the logits z of an exit, divided by its temperature T.
    `energy`: log(sum(exp(z / T))) (Liu et al., NeurIPS 2020, with the opposite sign).
    `max_logit`: max(z / T) (Hendrycks et al., ICML 2022).
    `confidence`: that of the exit (Hendrycks and Gimpel, ICLR 2017, for `max_softmax`).
    """

    score: ScoreName
    exits: tuple[RejectExit, ...] = Field(min_length=1)
    budgets: dict[str, RejectBudget]
    false_reject: float = Field(
        gt=0, lt=1, description="share of held-out images that each threshold can reject"
    )
    images: int = Field(gt=0, description="number of photos of other things")
    source: str = Field(description="their name")

    @property
    def in_graphs(self) -> bool:
        """Return whether the graphs have an output `score`. If not, the confidence is the score."""
        return self.score != "confidence"

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Return the threshold of each exit."""
        return tuple(each.threshold for each in self.exits)


def check_exits(reject: Reject | None, exits: int) -> None:
    """Check that a record, if there is one, is of this number of exits.

    Raises:
        ValueError: It is not.
    """
    if reject is not None and len(reject.exits) != exits:
        raise ValueError("reject: needs one threshold for each exit")
