"""A shadow: copies of a share of answered requests run in the engine of another version.

A copy begins anew with the image, in a free slot of that engine. Its answer is compared with the
one that the client got, and is never sent. All methods run on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from offramp.bundle.manifest import Manifest
from serving.audit.metrics import Unknown
from serving.engine.background.copies import Copies, End
from serving.engine.background.draws import UNKNOWN, Draws, Image, class_of, unknown_of
from serving.engine.background.shadow_metrics import Cost, Dropped, ShadowCounters
from serving.engine.batch import How
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.policy import Policy, resolve_again
from serving.engine.request import Request
from serving.errors import InvalidRequestError

log = logging.getLogger(__name__)


class Shadow:
    """Draws requests of the version that answers, and copies them to another one.

    Args:
        share: Share of the requests that are copied, above 0.
        served: Manifest of the version that answers.
        shadowed: Manifest of the other one, with the same input.
        copies: Copies in the engine of the other one.
        counters: Counters of its comparisons.
        milliseconds: Its operating points by the times of this machine.
    """

    def __init__(
        self,
        share: float,
        served: Manifest,
        shadowed: Manifest,
        copies: Copies,
        counters: ShadowCounters,
        milliseconds: Milliseconds | None = None,
    ) -> None:
        self._draws = Draws(share)
        self._served, self._shadowed = served, shadowed
        self._copies = copies
        self._counters = counters
        self._milliseconds = milliseconds
        self._drawn: dict[Request, Image] = {}

    def set_share(self, share: float) -> None:
        """Copy another share of the requests from now on."""
        self._draws.share = share

    def draw(self, requests: Sequence[Request], images: Sequence[Image], /) -> None:
        """Draw new requests, and keep their images."""
        for request, image in zip(requests, images, strict=True):
            if self._draws.draw(self._copies.most):
                # a view of one image would keep the pixels of its whole call
                self._drawn[request] = image.copy()

    def give_up(self, request: Request, reason: Unknown, /) -> None:
        """Note that a request ended early, if it was drawn."""
        if self._drawn.pop(request, None) is not None:
            self._drop(reason)

    def leave(self, requests: Sequence[Request], how: How, /) -> Sequence[Request]:
        """Copy drawn requests that left. The slots of all are free before."""
        for request in requests:
            if (image := self._drawn.pop(request, None)) is not None:
                self._copy(request, image, how)
        self._copies.look()
        return ()

    def close(self) -> None:
        """Copy no request that was drawn and is not answered yet. Copies under way go on."""
        while self._drawn:
            self._drawn.popitem()
            self._drop("stopped")

    def _copy(self, request: Request, image: Image, how: How) -> None:
        """Start the copy of a request. An error is logged, because further requests leave."""
        try:
            reason = unknown_of(request, how) or self._start(request, image)
        except Exception:
            log.exception("a request was not copied")
            reason = "failed"
        if reason is not None:
            self._drop(reason)

    def _start(self, request: Request, image: Image) -> Dropped | None:
        policy = self._policy_for(request.policy)
        if policy is None:
            return "budget"
        end = self._copies.begin(image, request, policy, lambda *end: self._finish(request, *end))
        return None if end is None else UNKNOWN[end]

    def _policy_for(self, policy: Policy) -> Policy | None:
        try:
            return resolve_again(policy, self._shadowed, self._milliseconds)
        except InvalidRequestError:
            return None

    def _finish(self, request: Request, copy: Request, end: End) -> None:
        if end != "finished":
            self._drop(UNKNOWN[end])
            return
        self._draws.end()
        label = self._served.labels[class_of(request)]
        self._counters.compared(
            copy.policy.name,
            _cost(request, self._served),
            _cost(copy, self._shadowed),
            agrees=label == self._shadowed.labels[class_of(copy)],
        )

    def _drop(self, reason: Dropped) -> None:
        self._draws.end()
        self._counters.drop(reason)


def _cost(request: Request, manifest: Manifest) -> Cost:
    number = len(request.opinions)
    return Cost(number, manifest.flops_of(number, request.policy.asks), request.compute)
