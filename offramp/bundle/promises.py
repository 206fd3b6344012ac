"""The record `promises` of a manifest: operating points with a certified share of losses.

A promise holds for all images together (marginally) or for the answers of each exit, if the images
come from the same source as those that it was certified on, and for the graphs that it was
certified on. A reader of the manifest computes each test again, and refuses a promise that its
figures do not support.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from offramp.bundle.betting import p_value_of_gap
from offramp.bundle.binomial import MOST_IMAGES, p_value, p_value_given_exit
from offramp.bundle.values import Estimate, FrozenRecord, Name, is_none

Kind = Literal["agreement", "harm", "exit", "accuracy"]
ORDER: tuple[Kind, ...] = ("exit", "agreement", "harm", "accuracy")  # each implies the next
SAFE = "safe"  # name of the promise that `budget=safe` selects
SYNTAX = (
    "a share of answers that agree with full depth (99%), at each exit (exit:98%), of harm "
    "(harm:1%), or of accuracy that is lost (accuracy:1%)"
)
MOST_PROMISES = 16
ROUNDING = 1e-9  # relative error of a p-value that another machine computes
# Text of a level, as in JSON schemas too. 0% is none.
PATTERN = r"^(harm:|exit:|accuracy:)?(?!0{1,2}(?:\.0{1,6})?%)([0-9]{1,2}(?:\.[0-9]{1,6})?)%$"
_TEXT = re.compile(PATTERN)


class Level(NamedTuple):
    """The largest probability of a loss, `epsilon`, that is asked for or promised.

    `agreement`: a loss is an answer of another class than full depth gives. `exit`: the same, among
    the answers of each exit. `harm`: a loss is an answer that is wrong, where full depth is right.
    `accuracy`: the same, and `epsilon` bounds losses less gains, which are the opposite.
    """

    kind: Kind
    epsilon: float

    def __str__(self) -> str:
        """Return the text that `parse_level` reads: `99%`, `exit:98%` or `harm:1%`."""
        loss = 100 * Decimal(str(self.epsilon))
        if self.kind in ("harm", "accuracy"):
            return f"{self.kind}:{_plain(loss)}%"
        return f"{'exit:' if self.kind == 'exit' else ''}{_plain(100 - loss)}%"

    def holds(self, asked: Level) -> bool:
        """Return whether this level implies another.

        What holds at each exit holds in all, every harm is also a disagreement, and accuracy falls
        by no more than the harm.
        """
        implied = ORDER[ORDER.index(self.kind) :]
        return asked.kind in implied and self.epsilon <= asked.epsilon


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def parse_level(text: str) -> Level:
    """Parse `99%` (agreement with full depth), `exit:98%`, `harm:1%` or `accuracy:1%`.

    Raises:
        ValueError: It is no such text, or 0% or 100%.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:64]!r} is not {SYNTAX}, above 0% and below 100%")
    share = Decimal(found[2])
    if found[1] in ("harm:", "accuracy:"):
        return Level("harm" if found[1] == "harm:" else "accuracy", float(share / 100))
    return Level("exit" if found[1] else "agreement", float((100 - share) / 100))


class LossesOfExit(FrozenRecord):
    """The losses among the images that left at an exit."""

    losses: int = Field(ge=0)
    images: int = Field(ge=0)


class Promise(FrozenRecord):
    """An operating point, and the most losses that it gives with probability 1 - delta."""

    name: Name | None = Field(description="budget that selects it too")
    kind: Kind
    epsilon: float = Field(gt=0, lt=1, description="largest probability of a loss")
    losses: int = Field(ge=0, description="among the images that it was certified on")
    risk: float = Field(
        ge=0,
        le=1,
        description="place on the path, from full depth (0) to the first exit (1): largest "
        "estimated probability of a disagreement at which a request leaves, where going on costs "
        "the most",
    )
    thresholds: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    mean_flops: Estimate
    exit_shares: tuple[Estimate, ...] = Field(min_length=1)
    by_exit: tuple[LossesOfExit, ...] | None = Field(
        None,
        description="of the kind exit: each exit but the last",
        exclude_if=is_none,
    )
    gains: int | None = Field(
        None,
        ge=0,
        description="of the kind accuracy: images that are right where full depth is wrong",
        exclude_if=is_none,
    )

    @property
    def level(self) -> Level:
        """Return the kind and the largest probability of a loss."""
        return Level(self.kind, self.epsilon)

    @property
    def label(self) -> str:
        """Return its label in the metrics: `promise-99` or `promise-harm-1`."""
        return "promise-" + str(self.level).replace(":", "-").rstrip("%")

    def p_value(self, images: int) -> float:
        """Return the p-value of its losses among the images that it was certified on.

        Raises:
            ValueError: There are more losses than images, or a count is missing or does not add up.
        """
        if self.losses > images:
            raise ValueError("more losses than images")
        if self.kind == "exit":
            return p_value_given_exit(self._opened(images), self.epsilon)
        if self.by_exit is not None:
            raise ValueError("by_exit does not add up: it is of the kind exit")
        if (self.kind == "accuracy") == (self.gains is None):
            raise ValueError("gains are of the kind accuracy, which needs them")
        if self.gains is not None:
            return p_value_of_gap(self.losses, self.gains, images, self.epsilon)
        return p_value(self.losses, images, self.epsilon)

    def _opened(self, images: int) -> list[tuple[int, int]]:
        """Return losses and images of each exit at which images can leave."""
        exits = self.by_exit or ()
        losses, left = (sum(getattr(each, name) for each in exits) for name in ("losses", "images"))
        opened = [threshold <= 1 for threshold in self.thresholds[:-1]]
        if len(exits) != len(opened) or losses != self.losses or left > images:
            raise ValueError("by_exit does not add up")
        pairs = [*zip(exits, opened, strict=True)]
        if any(each.images or each.losses for each, is_open in pairs if not is_open):
            raise ValueError("by_exit does not add up: no image leaves at an exit that is closed")
        return [(each.losses, each.images) for each, is_open in pairs if is_open]


class Promises(FrozenRecord):
    """The certified promises of a bundle, and the images that they were certified on.

    All of them hold at once with probability 1 - `delta` over the choice of these images. Each was
    tested at `delta` / `at_once` (Bonferroni).
    """

    delta: float = Field(gt=0, lt=1, description="probability that a promise does not hold")
    at_once: int = Field(gt=0, description="promises tested, including those that failed")
    tuned: int = Field(ge=0, description="images that the path was chosen on")
    certified: int = Field(
        gt=0, le=MOST_IMAGES, description="other images, that the promises were certified on"
    )
    source: str = Field(description="name of the images")
    graphs: tuple[str, ...] = Field(description="sha256 of each graph that was certified")
    offered: tuple[Promise, ...] = Field(min_length=1, max_length=MOST_PROMISES)

    def cheapest(self, asked: Level) -> Promise | None:
        """Return the promise with the fewest mean flops that holds a level, if there is one."""
        holding = [each for each in self.offered if each.level.holds(asked)]
        return min(holding, key=lambda each: each.mean_flops.value, default=None)

    def named(self, name: str) -> Promise | None:
        """Return the promise of this name, if there is one."""
        return next((each for each in self.offered if each.name == name), None)

    @model_validator(mode="after")
    def _supported(self) -> Self:
        if self.at_once < len(self.offered):
            raise ValueError(f"at_once: {self.at_once} is fewer than the promises; {_REMEDY}")
        for promise in self.offered:
            try:
                p = promise.p_value(self.certified)
            except ValueError as error:
                raise ValueError(f"{promise.level}: {error}; {_REMEDY}") from error
            if p > self.delta / self.at_once * (1 + ROUNDING):
                raise ValueError(
                    f"{promise.level}: {promise.losses:,} losses in {self.certified:,} images do "
                    "not support it "
                    f"(p-value {p:.3g}, above {self.delta:g} / {self.at_once}); {_REMEDY}"
                )
        for texts in ([str(each.level) for each in self.offered], self._names()):
            if len(set(texts)) < len(texts):
                raise ValueError(f"offered: {max(texts, key=texts.count)} is there twice")
        return self

    def _names(self) -> list[str]:
        return [each.name for each in self.offered if each.name is not None]

    def check_bundle(self, graphs: Sequence[str], budgets: Sequence[str]) -> None:
        """Check that the promises are of a bundle with these graphs (sha256) and budgets (names).

        Raises:
            ValueError: They are not.
        """
        if self.graphs != tuple(graphs):
            raise ValueError(f"promises.graphs: certified on other graphs; {_REMEDY}")
        taken = set(budgets) & {*self._names(), *(each.label for each in self.offered)}
        if taken:
            raise ValueError(f"promises.offered: {min(taken)} is the name of a budget too")
        for promise in self.offered:
            where = f"promises.offered, {promise.level}"
            if not len(promise.thresholds) == len(promise.exit_shares) == len(graphs):
                raise ValueError(f"{where}: needs one threshold and one share for each exit")
            if promise.thresholds[-1] != 0:
                raise ValueError(f"{where}: the last threshold must be 0")


_REMEDY = "offramp certify makes promises for this bundle"
