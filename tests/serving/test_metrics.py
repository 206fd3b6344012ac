import math

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import ENOUGH, WINDOW, ExitShares, Metrics, Model

MODEL = Model(
    name="net",
    version="3",
    precision="int8",
    provider="cpu",
    flops_to_exit=(10, 30),
    expected={"low": (0.75, 0.25)},
    unexpected=("numeric",),
)


@pytest.fixture
def metrics():
    return Metrics(MODEL)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"offramp_{name}", labels)


def answer(metrics, budget="low", stage=0, **changes):
    times = {"total": 0.5, "queue": 0.3, "compute": 0.1, "deadline_hit": False}
    metrics.answer(budget, stage, 0.85, **times | changes)


def test_an_answer_counts_everywhere(metrics):
    answer(metrics, stage=1)
    assert value(metrics, "requests_total", budget="low", outcome="answered") == 1
    assert value(metrics, "exits_total", model="net", budget="low", exit="2") == 1
    assert value(metrics, "exits_total", model="net", budget="low", exit="1") == 0
    assert value(metrics, "flops_spent_total", budget="low") == 30
    assert value(metrics, "flops_full_total", budget="low") == 30
    assert value(metrics, "request_seconds_sum", budget="low") == 0.5
    assert value(metrics, "request_part_seconds_sum", part="queue") == 0.3
    assert value(metrics, "request_part_seconds_sum", part="compute") == 0.1
    assert value(metrics, "confidence_bucket", exit="2", le="0.8") == 0
    assert value(metrics, "confidence_bucket", exit="2", le="0.9") == 1


def test_other_ends_count_as_outcomes_alone(metrics):
    metrics.count("numeric", "refused", 3)
    assert value(metrics, "requests_total", budget="numeric", outcome="refused") == 3
    assert value(metrics, "flops_spent_total", budget="numeric") == 0


def test_stages_decoding_and_problems(metrics):
    metrics.batch(1, 5, 0.25)
    metrics.decode(0.125)
    metrics.problem("pool-full")
    assert value(metrics, "stage_seconds_sum", stage="2") == 0.25
    assert value(metrics, "batch_size_sum", stage="2") == 5
    assert value(metrics, "request_part_seconds_sum", part="decode") == 0.125
    assert value(metrics, "problems_total", type="pool-full") == 1


def test_the_pool_is_read_at_each_scrape(metrics):
    depth = [1, 2]
    metrics.watch(8, 4096, lambda: 3, depth.pop)
    assert (value(metrics, "slots"), value(metrics, "pool_bytes")) == (8, 4096)
    assert value(metrics, "slots_in_use") == 3
    assert [value(metrics, "queue_depth"), value(metrics, "queue_depth")] == [2, 1]


def test_expected_and_seen_shares_and_their_distance(metrics):
    at = {"model": "net", "budget": "low"}
    assert value(metrics, "exit_share_expected", **at, exit="1") == 0.75
    assert value(metrics, "flops_expected", budget="low") == 0.75 * 10 + 0.25 * 30
    assert math.isnan(value(metrics, "exit_drift", **at))
    for i in range(ENOUGH):
        answer(metrics, stage=i % 2)
        answer(metrics, stage=1, deadline_hit=True)  # says nothing about the policy
        answer(metrics, budget="numeric")
    assert value(metrics, "exit_share_seen", **at, exit="1") == 0.5
    assert value(metrics, "exit_drift", **at) == 0.25
    assert value(metrics, "exit_drift", model="net", budget="numeric") is None


def test_shares_forget():
    shares = ExitShares((1.0, 0.0))
    for stage in [0] * WINDOW + [1] * (WINDOW // 4):
        shares.add(stage)
    assert (shares.seen(0), shares.seen(1), shares.drift()) == (0.75, 0.25, 0.25)


def test_what_is_exposed_is_bounded_and_named_ours(metrics):
    Metrics(MODEL)  # a second app in the process is no conflict
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    names = {family.name for family in families}
    assert all(name.startswith(("offramp_", "process_")) for name in names)
    (info,) = next(f for f in families if f.name == "offramp_model_info").samples
    assert info.labels == {
        "model": "net",
        "version": "3",
        "precision": "int8",
        "provider": "cpu",
    }
    with pytest.raises(KeyError):
        metrics.count("whatever a client sends", "answered")
