"""Certify operating points: how often their answers differ from those of full depth."""

from collections.abc import Iterable

from exporter.errors import ExportError
from exporter.promises.fixed_sequence import level_of
from exporter.promises.needed import images_that_certify
from offramp.bundle.binomial import MOST_IMAGES
from offramp.bundle.promises import MOST_PROMISES, Level, parse_level

PROMISES = "99%,98%,95%"
PROMISES_HELP = (
    "promises to certify on a part of the images: shares of answers that agree with full depth "
    "(99%), the same at each exit (exit:98%), of harm, wrong where full depth is right "
    "(harm:1%), or of accuracy that is lost (accuracy:1%), separated by commas. null: none"
)
SOLVE_FOR_HELP = (
    "what budgets lose least of: agreement with full depth, or accuracy. Agreement needs fewer "
    "images. Accuracy is for networks with early exits that are better than full depth"
)
PRICE_HELP = (
    "what going on costs on the path of operating points: flops, or milliseconds of one image as "
    "this machine measures them"
)
NEED_LABELS = ("harm", "accuracy")
DELTA = 0.05
DELTA_HELP = "probability that one of the promises does not hold"


def check_without_labels(levels: Iterable[Level]) -> None:
    """Check that promises can be certified on images without labels.

    Raises:
        ExportError: One is about harm or accuracy.
    """
    for level in levels:
        if level.kind in NEED_LABELS:
            raise ExportError(
                f"--promises: {level.kind} needs labels; promise agreement, which implies it"
            )


def check_promises(text: str | None, delta: float) -> None:
    """Check `--promises` before anything is read. `None`: no promise is wanted.

    Raises:
        ExportError: As of `read_levels`.
    """
    if text is not None:
        read_levels(text, delta)


def read_levels(text: str, delta: float) -> tuple[Level, ...]:
    """Read the levels of `--promises`, and check that a number of images certifies each.

    Args:
        text: The levels, separated by commas.
        delta: Probability that one of the promises does not hold.

    Raises:
        ExportError: One is not a level, is there twice, or takes too many images, or there are too
            many levels.
    """
    try:
        levels = tuple(parse_level(each.strip()) for each in text.split(","))
    except ValueError as error:
        raise ExportError(f"--promises: {error}") from error
    if len(set(levels)) < len(levels) or len(levels) > MOST_PROMISES:
        raise ExportError(f"--promises: give each once, and at most {MOST_PROMISES}")
    for level in levels:
        _check_possible(level, delta, len(levels))
    return levels


def _check_possible(level: Level, delta: float, at_once: int) -> None:
    try:
        images_that_certify(level, level_of(delta, at_once))
    except ValueError as error:
        raise ExportError(
            f"--promises: {level} takes more than {MOST_IMAGES:,} images at --delta {delta}; "
            "promise less"
        ) from error
