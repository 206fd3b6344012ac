"""An operating point: thresholds, with what they cost and give."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from offramp.bundle.values import Estimate, FrozenRecord, is_none


class OperatingPoint(FrozenRecord):
    """Thresholds, with their cost and accuracy on the held-out images.

    A request leaves at the first exit where the confidence is at least the threshold. The last
    threshold is 0. At a threshold above 1 no request leaves. Accuracy and agreement are
    cross-fitted.
    """

    thresholds: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    mean_flops: Estimate
    accuracy: Estimate
    exit_shares: tuple[Estimate, ...] = Field(min_length=1)
    agreement: Estimate | None = Field(
        None, description="share of answers that agree with full depth", exclude_if=is_none
    )
    risk: float | None = Field(
        None,
        ge=0,
        le=1,
        description="place on the path, from full depth (0) to the first exit (1)",
        exclude_if=is_none,
    )
