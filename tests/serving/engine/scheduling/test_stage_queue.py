from __future__ import annotations

import gc
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.request import Request
from serving.engine.scheduling.stage_queue import StageQueue
from tests.serving.scheduling import request


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.none() | st.integers(1, 9)),
            st.tuples(st.just("remove"), st.integers(0, 20)),
        )
    )
)
def test_it_is_a_list_that_is_sorted_by_deadlines_too(steps: list[tuple[str, int]]) -> None:
    queue = StageQueue()
    model: list[Request] = []
    everyone: list[Request] = []
    for name, value in steps:
        if name == "add":
            new = request(deadline=value)
            queue.add(new)
            for each in (model, everyone):
                each.append(new)
        elif everyone:
            chosen = everyone[value % len(everyone)]
            assert queue.remove(chosen) == (chosen in model)
            model = [each for each in model if each is not chosen]
        assert [*queue] == model
        assert len(queue) == len(model)
        assert queue.oldest(3) == tuple(model[:3])
        due = sorted((each for each in model if each.policy.deadline), key=lambda r: r.due)
        assert queue.with_deadline == len(due)
        assert queue.most_urgent() is (due[0] if due else None)
        assert queue.urgent(5.0, 2) == [each for each in due if each.due <= 5][:2]


def test_urgent_requests_come_first_but_pass_the_oldest_only_once() -> None:
    queue = StageQueue()
    oldest, *others = [request() for _ in range(3)]
    urgent = [request(deadline=value) for value in (2.0, 1.0)]
    for each in (oldest, *others, *urgent):
        queue.add(each)
    assert queue.urgent_first(5.0, 2) == (urgent[1], urgent[0])
    assert queue.urgent_first(5.0, 2) == (oldest, urgent[1])
    assert queue.urgent_first(5.0, 2) == (urgent[1], urgent[0])
    assert queue.oldest(2) == (oldest, others[0])
    assert queue.urgent_first(1.5, 2) == (urgent[1], oldest)


def test_requests_that_left_are_not_kept_behind_one_that_is_due_earlier() -> None:
    queue = StageQueue()
    queue.add(request(deadline=1.0))
    left = []
    for _ in range(8):
        patient = request(deadline=3600.0)
        queue.add(patient)
        queue.remove(patient)
        left.append(ref(patient.call.future))
        del patient
    gc.collect()
    assert sum(each() is not None for each in left) <= 1
