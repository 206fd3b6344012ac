"""The model that computes next, and for how long. Holds no clock, thread or lock."""

from __future__ import annotations

import math
from dataclasses import dataclass

RECENT = 1.0  # seconds after its last turn for which a model is in use
HORIZON = 0.25  # seconds over which the cores that a model uses are averaged
BUSY = 0.25  # seconds without a pause after which a model is flooded
PAUSE = 2e-3  # seconds without a request
CLEARLY = 0.8  # of the mean use of all models: one that uses less gets less than it asks for
LEAST = 2e-3  # seconds that a turn can always take, and that a batch can always wait


@dataclass(slots=True, eq=False, weakref_slot=True)
class Use:
    """The use that a model makes of the cores.

    Attributes:
        seconds: Time of one of its requests alone.
        running: Batches that have a turn.
        waiting: Batches that wait for a turn.
        looking: Threads that had a turn, and have not looked for their next batch yet.
        cores: Cores that it used at `seen`, a running mean.
        seen: Time of that mean: the end of its last turn.
        rests_since: Time at which its last thread found no batch.
        busy_since: Start of its first batch after its last pause.
        waits_since: Time of its last start while batches wait, or of the first of these.
    """

    seconds: float
    running: int = 0
    waiting: int = 0
    looking: int = 0
    cores: float = 0.0
    seen: float = -math.inf
    rests_since: float = -math.inf
    busy_since: float = -math.inf
    waits_since: float = -math.inf

    @property
    def patience(self) -> float:
        """Return the seconds by which the turns of others can delay a request."""
        return max(LEAST, self.seconds)

    def cores_at(self, now: float) -> float:
        """Return the mean number of cores that it uses."""
        return self.cores * math.exp((self.seen - now) / HORIZON)

    @property
    def rests(self) -> bool:
        """Return whether it has no batch, and no thread that looks for one."""
        return not (self.running or self.waiting or self.looking)

    def pauses(self, now: float) -> bool:
        """Return whether it had no request for a while.

        A thread that lost its core between two batches is no pause.
        """
        return self.rests and now > self.rests_since + PAUSE

    def paused_lately(self, now: float) -> bool:
        """Return whether it had a pause in the last `BUSY` seconds, or pauses."""
        return self.pauses(now) or now < self.busy_since + BUSY


class TurnOrder:
    """Decides which model starts a batch, and how long the batch can take.

    As many batches run as there are cores. A batch can start if no model waits that used the cores
    less. A model is light if it had a pause in the last `BUSY` seconds, or if it clearly used the
    cores less than others. While it is in use, the turns of models that used the cores more are no
    longer than one of its requests takes alone. So a request of a light model waits for about as
    long as it computes. If a single request of another model takes longer, the light one starts
    one batch more than there are cores.

    Args:
        cores: Batches that run at once.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._in_use: set[Use] = set()

    def can_start(self, model: Use, now: float) -> bool:
        """Return whether a batch of a model that waits can start."""
        if sum(each.running for each in self._in_use) >= self._cores:
            waits_long = now >= model.waits_since + model.patience
            return waits_long and not model.running and self.is_light(model, now)
        mine = model.cores_at(now)
        return not any(each.waiting and each.cores_at(now) < mine for each in self._in_use)

    def longest(self, model: Use, now: float) -> float:
        """Return the most seconds that the next turn of a model can take."""
        unused = {each for each in self._in_use if each.pauses(now) and now > each.seen + RECENT}
        self._in_use -= unused
        mine = model.cores_at(now)
        others = (each for each in self._in_use if each is not model and each.cores_at(now) <= mine)
        return min((each.patience for each in others if self.is_light(each, now)), default=math.inf)

    def is_light(self, model: Use, now: float) -> bool:
        """Return whether the latency of a model depends on the turns of others."""
        since = model.waits_since if model.waiting and not model.running else now
        if model.paused_lately(since):
            return True
        used = sum(each.cores_at(now) for each in self._in_use)
        return model.cores_at(now) < CLEARLY * used / len(self._in_use)

    def wait(self, model: Use, now: float) -> None:
        """Note that a batch of a model waits."""
        if model.pauses(now):
            model.busy_since = now
        if not model.waiting:
            model.waits_since = now
        model.waiting += 1
        self._in_use.add(model)

    def start(self, model: Use, now: float) -> None:
        """Note that a batch of a model that waited starts."""
        model.waits_since = now
        model.waiting -= 1
        model.running += 1

    def end(self, model: Use, seconds: float, now: float) -> None:
        """Note that a batch of a model has ended, which took some seconds of a core.

        Its thread then looks for the next one.
        """
        model.running -= 1
        model.looking += 1
        model.cores = model.cores_at(now) + seconds / HORIZON
        model.seen = now

    def looked(self, model: Use, now: float) -> None:
        """Note that a thread of a model has found its next batch, which waits, or no batch."""
        model.looking -= 1
        if model.rests:
            model.rests_since = now
