from hypothesis import given
from hypothesis import strategies as st

from serving.engine.stage_queue import StageQueue
from tests.serving.scheduling import request


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.none() | st.integers(1, 9)),
            st.tuples(st.just("remove"), st.integers(0, 20)),
        )
    )
)
def test_it_is_a_list_that_knows_its_deadlines(steps) -> None:
    queue, model, everyone = StageQueue(), [], []
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
        hurried = sorted((each for each in model if each.policy.deadline), key=lambda r: r.due)
        assert queue.hurrying == len(hurried)
        assert queue.most_urgent() is (hurried[0] if hurried else None)
        assert queue.urgent(5.0, 2) == [each for each in hurried if each.due <= 5][:2]
