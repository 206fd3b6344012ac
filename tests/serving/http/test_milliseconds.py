"""`budget=8ms`: the mean compute time of an answer, by the times that the server measured."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from offramp import Classifier, Client
from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.budgets.milliseconds import REFRESH_SECONDS, Milliseconds
from serving.engine.latency import Latency
from serving.errors import BudgetTooLowError, UnknownBudgetError
from serving.http.oip.parameters import ParameterReader, read_parameters
from serving.http.query import QueryReader
from tests.serving.answers import problem
from tests.serving.servers import Running
from tests.serving.small_bundle import png, random_images

PIXELS = {"content-type": "application/vnd.offramp.uint8"}
IMAGES = random_images(16, 3)


def classify(client: httpx.Client, **query: str) -> httpx.Response:
    return client.post("/classify", params=query, content=IMAGES.tobytes(), headers=PIXELS)


def test_the_model_states_the_milliseconds_of_its_stages(asking: httpx.Client) -> None:
    measured = asking.get("/model").json()["milliseconds"]
    assert len(measured["stages"]) == 4
    assert all(stage["with_head"] > 0 for stage in measured["stages"])
    assert measured["whole_network"] > 0
    assert 0 < measured["cheapest"] <= measured["budgets"]["low"] <= measured["dearest"]


def test_an_answer_says_what_its_budget_stands_for(
    asking: httpx.Client, promise_bundle: Path
) -> None:
    full = read_manifest(promise_bundle).full_flops
    body = classify(asking, budget="60000ms").json()
    assert body["budget"] == "60000ms"
    for answer in body["answers"]:
        assert answer["operating_point"]["mean_flops"] == full
        assert 0 < answer["operating_point"]["mean_ms"] < 60000
    small = asking.post("/classify?budget=60000ms", content=png(IMAGES[0], "JPEG")).json()
    assert small["answers"][0]["operating_point"]["mean_flops"] == full


def test_other_budgets_say_nothing_of_time(asking: httpx.Client) -> None:
    for query in ({}, {"budget": "90%"}, {"promise": "95%"}):
        body = classify(asking, **query).json()
        assert not any("operating_point" in each for each in body["answers"])


def test_a_budget_below_the_cheapest_point_is_refused_with_what_is_offered(
    asking: httpx.Client,
) -> None:
    detail = problem(classify(asking, budget="0.000001ms"), 422, "budget-too-low")
    assert "ask for at least" in detail
    assert "8ms" in problem(classify(asking, budget="cheap"), 422, "unknown-budget")


def test_a_promise_within_milliseconds(asking: httpx.Client) -> None:
    assert classify(asking, promise="95%", budget="60000ms").json()["answers"][0]["promise"]
    refused = classify(asking, promise="95%", budget="0.000001ms")
    assert "ms of compute" in problem(refused, 422, "budget-too-low")


def test_the_inference_protocol_takes_milliseconds(asking: httpx.Client) -> None:
    image = {"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
    request = {
        "inputs": [{**image, "data": IMAGES[0].ravel().tolist()}],
        "parameters": {"budget": "60000ms"},
    }
    response = asking.post("/v2/models/testnet/infer", json=request)
    assert response.status_code == 200, response.text
    parameters = response.json()["parameters"]
    assert parameters["budget"] == "60000ms"
    assert 0 < float(parameters["mean_ms"]) < 60000


def test_clients_take_milliseconds(promising: Running) -> None:
    with Client(promising.url) as client:
        (answer,) = client.classify(IMAGES[0], "60000ms")
        with pytest.raises(BudgetTooLowError, match="ask for at least"):
            client.classify(IMAGES[0], "0.000001ms")
        (other,) = client.classify(IMAGES[0], "low")
    assert answer.operating_point is not None
    assert answer.operating_point.mean_ms > 0
    assert other.operating_point is None


def test_a_classifier_takes_milliseconds(bundle: Path) -> None:
    with Classifier.open(bundle, threads=1) as classifier:
        answers = classifier.classify(IMAGES, "60000ms")
        assert all(answer.exit == 4 and answer.operating_point for answer in answers)
        with pytest.raises(BudgetTooLowError):
            classifier.classify(IMAGES, "0.000001ms")
        with pytest.raises(UnknownBudgetError, match="depends on the machine"):
            classifier.evaluate("nothing", ["8ms"])


def test_a_cached_query_follows_the_times_of_the_machine(manifest: Manifest) -> None:
    now, latency = [0.0], Latency([1], [[1e-3], [2e-3], [3e-3], [4e-3]])
    reader = QueryReader(manifest, Milliseconds(manifest, latency, lambda: now[0]))
    before = reader.read(b"budget=4ms")
    assert reader.read(b"budget=4ms") is reader.read(b"budget=4ms")
    for _ in range(300):
        latency.observe(0, 1, 2e-3)
    assert reader.read(b"budget=4ms").policy == before.policy
    now[0] += REFRESH_SECONDS
    slower = reader.read(b"budget=4ms").policy
    assert slower.timed is not None
    assert before.policy.timed is not None
    assert slower.timed.flops < before.policy.timed.flops


@pytest.fixture
def timed_reader(manifest: Manifest) -> QueryReader:
    """A reader for stages of which most of the time is spent in their heads."""
    bare = [[1e-4], [1e-4], [1e-4], [3e-3]]
    return QueryReader(
        manifest, Milliseconds(manifest, Latency([1], [[1e-3]] * 3 + [[3e-3]], bare))
    )


def test_every_deadline_has_the_operating_point_of_deadline_ms(timed_reader: QueryReader) -> None:
    """With a deadline every exit is evaluated, which takes milliseconds of the budget."""
    expected = timed_reader.read(b"budget=3.5ms&deadline_ms=5000").policy
    without = timed_reader.read(b"budget=3.5ms").policy
    assert expected.thresholds != without.thresholds
    reader = ParameterReader(timed_reader)
    for parameters, seconds in (({"timeout": 5_000_000}, None), ({}, 5.0)):
        asked = read_parameters(b"budget=3.5ms", parameters)
        found = reader.resolve(asked, seconds).policy
        assert (found.thresholds, found.timed) == (expected.thresholds, expected.timed)
        assert (found.deadline, found.explain) == (5.0, False)


def test_a_stream_has_the_operating_point_of_explain(timed_reader: QueryReader) -> None:
    expected = timed_reader.read(b"budget=3.5ms&explain=true&deadline_ms=9").policy
    found = timed_reader.read(b"budget=3.5ms&deadline_ms=9")
    assert timed_reader.at_every_exit(found, explain=True).policy == expected
    plain = timed_reader.read(b"budget=3.5ms")
    assert timed_reader.at_every_exit(plain, explain=True).policy.timed == expected.timed
    assert timed_reader.at_every_exit(plain, explain=True).query == plain.query


def test_a_stream_checks_the_milliseconds_beside_a_promise_again(promise_bundle: Path) -> None:
    """A promise that closes an exit takes more time where that exit is evaluated all the same."""
    manifest = read_manifest(promise_bundle)
    assert manifest.promises is not None
    early, shares = manifest.exits - 1, manifest.budgets["full"].exit_shares
    never = {"thresholds": (2.0,) * early + (0.0,), "exit_shares": shares}
    closed = manifest.promises.offered[1].model_copy(update=never)
    promises = manifest.promises.model_copy(update={"offered": (closed,)})
    manifest = manifest.model_copy(update={"promises": promises})
    bare = [[1e-4]] * early + [[3e-3]]
    latency = Latency([1], [[1e-3]] * early + [[3e-3]], bare)
    reader = QueryReader(manifest, Milliseconds(manifest, latency))
    asked = reader.read(b"promise=95%&budget=5ms")  # 3.3 ms without heads, 6 ms with them
    expected = "promise=95% takes 6 ms"
    with pytest.raises(BudgetTooLowError, match=expected):
        reader.read(b"promise=95%&budget=5ms&explain=true")
    with pytest.raises(BudgetTooLowError, match=expected):
        reader.at_every_exit(asked, explain=True)
    with pytest.raises(BudgetTooLowError, match=expected):
        ParameterReader(reader).resolve(read_parameters(b"promise=95%&budget=5ms", {}), 1.0)
    enough = reader.read(b"promise=95%&budget=7ms")
    assert reader.at_every_exit(enough, explain=True).policy.thresholds == closed.thresholds
