"""The scheduler against a model of it: random steps, every request leaves once."""

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.scheduler import Scheduler
from tests.serving.scheduling import STAGES, THROUGH, latency, ran, request


class Simulation:
    """Requests with the confidences that they will get, in the hands of a scheduler."""

    def __init__(self, max_batch, order, rebatch, whole_network) -> None:
        times = latency(whole_network=THROUGH if whole_network else None)
        self.scheduler = Scheduler(times, max_batch, order, rebatch=rebatch)
        self.max_batch = max_batch
        self.confidences = {}  # of every request, by stage
        self.arrivals = [[] for _ in range(STAGES)]  # who waits at each stage, in order
        self.flying = []
        self.left = []
        self.dropped = set()

    def add(self, thresholds, confidences) -> None:
        new = request((*thresholds, 0.0))
        self.confidences[new] = confidences
        self.arrivals[0].append(new)
        self.scheduler.add(new)

    def schedule(self, idle=0) -> None:
        batch = self.scheduler.schedule(0.0, idle)
        if batch is None:
            assert not any(self.arrivals)
            return
        queue = self.arrivals[batch.stage]
        chosen = list(batch.requests)
        assert 0 < len(chosen) <= self.max_batch
        assert chosen == queue[: len(chosen)]
        asked = any(each.policy.asks[batch.stage] for each in chosen)
        assert batch.head == (asked or batch.whole_network)
        assert not self.dropped & set(chosen)
        del queue[: len(chosen)]
        self.flying.append(batch)

    def land(self, which) -> None:
        batch = self.flying.pop(which % len(self.flying))
        exit_ = STAGES - 1 if batch.whole_network else batch.stage
        left = ran(self.scheduler, batch, [self.confidences[r][exit_] for r in batch.requests])
        self.left += left
        for each in batch.requests:
            if each not in left:
                self.arrivals[batch.stage + 1].append(each)

    def drop(self, which) -> None:
        chosen = list(self.confidences)[which % len(self.confidences)]
        if chosen in self.left:
            assert not self.scheduler.drop(chosen)
            return
        waits = any(chosen in queue for queue in self.arrivals)
        assert self.scheduler.drop(chosen) == waits
        if waits:
            for queue in self.arrivals:
                if chosen in queue:
                    queue.remove(chosen)
            self.left.append(chosen)
        self.dropped.add(chosen)

    def finish(self) -> None:
        while self.flying or any(self.arrivals):
            self.schedule()
            while self.flying:
                self.land(0)
        assert self.scheduler.schedule(0.0) is None
        assert self.scheduler.waiting == 0
        assert self.scheduler.backlog() == 0


unit = st.floats(0, 1)
operations = st.one_of(
    st.tuples(st.just("add"), st.tuples(*[st.floats(0, 2)] * 3), st.tuples(*[unit] * 4)),
    st.tuples(st.just("schedule"), st.integers(0, 3)),
    st.tuples(st.just("land"), st.integers(0, 10)),
    st.tuples(st.just("drop"), st.integers(0, 10)),
)


@given(
    st.integers(1, 5),
    st.sampled_from(["deepest", "fullest"]),
    st.booleans(),
    st.booleans(),
    st.lists(operations, max_size=60),
)
def test_every_request_leaves_once_at_the_right_exit(
    max_batch, order, rebatch, whole_network, steps
) -> None:
    world = Simulation(max_batch, order, rebatch, whole_network)
    for name, *arguments in steps:
        if (name == "land" and not world.flying) or (name == "drop" and not world.confidences):
            continue
        getattr(world, name)(*arguments)
        assert world.scheduler.waiting == sum(map(len, world.arrivals))
    world.finish()
    assert len(world.left) == len(set(world.left)) == len(world.confidences)
    for each, confidences in world.confidences.items():
        if each not in world.dropped:
            pairs = enumerate(zip(confidences, each.policy.thresholds, strict=True))
            first = next(k for k, (seen, threshold) in pairs if seen >= threshold)
            assert each.stage == first + 1
            asked = [threshold <= 1 for threshold in each.policy.thresholds[: first + 1]]
            assert [opinion is not None for opinion in each.opinions] == asked
