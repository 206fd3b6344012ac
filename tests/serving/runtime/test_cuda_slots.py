import numpy as np
import onnxruntime as ort
import pytest

from offramp.bundle.manifest import TensorSpec
from serving.errors import ProviderError
from serving.runtime.cuda_graph import SLOTS
from serving.runtime.cuda_slots import CudaSlots, Device

SLOT_COUNT = 6


def spec(name, *shape, dtype="float32"):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


IMAGE = spec("image", 3, 5, 3, dtype="uint8")
A, B, C, D = (spec(name, 2, 4) for name in "abcd")
SMALL = spec("small", 4)


def pool_of(inputs, features, slots=SLOT_COUNT):
    return CudaSlots(inputs, features, slots, Device("cpu"))


def addresses(pool):
    return {name: rows.address for name, rows in pool.rows.items()}


def test_features_that_no_stage_sees_together_share_their_memory() -> None:
    """A stage reads `b` while it writes `c`; by then nobody reads `a`."""
    at = addresses(pool_of([(IMAGE,), (A,), (B,), (C,)], [(A,), (B,), (C,), ()]))
    assert at["a"] == at["c"] != at["b"]


def test_features_that_are_read_late_share_with_none_till_then() -> None:
    at = addresses(pool_of([(IMAGE,), (A,), (B,), (C,), (A, D)], [(A,), (B,), (C,), (D,), ()]))
    assert at["b"] == at["d"]
    assert len(set(at.values())) == 3


def test_rows_of_another_length_share_nothing() -> None:
    """Row 3 of one would lie over rows 2 and 4 of the other."""
    at = addresses(pool_of([(IMAGE,), (A,), (B,), (SMALL,)], [(A,), (B,), (SMALL,), ()]))
    assert len(set(at.values())) == 3


def test_there_is_a_row_more_than_slots() -> None:
    pool = pool_of([(IMAGE,), (A,)], [(A,), ()])
    assert pool.spare == SLOT_COUNT
    assert pool.rows["a"].shape == [SLOT_COUNT + 1, 2, 4]
    assert pool.nbytes == (SLOT_COUNT + 1) * 3 * 5 * 3 + 256  # of 7 * 32


def test_features_lie_one_after_another() -> None:
    rows = pool_of([(IMAGE,), (A, SMALL)], [(A, SMALL), ()], slots=9).rows
    assert rows["small"].address - rows["a"].address == 512  # 10 * 32, padded


def test_a_stage_is_told_slots_and_nothing_else() -> None:
    pool = pool_of([(IMAGE,), (A,)], [(A,), ()])
    slots = pool.take(3)
    image = np.full(IMAGE.shape, 9, np.uint8)
    pool.put(slots[1], image)
    np.testing.assert_array_equal(pool.images[slots[1]], image)
    for stage in (0, 1):
        (given,) = pool.gather(stage, slots).items()
        assert given[0] == SLOTS
        assert given[1].tolist() == slots


def test_a_pool_that_does_not_fit_is_refused_with_the_remedy() -> None:
    huge = spec("huge", 1 << 30, 1 << 10)
    with pytest.raises(ProviderError, match=r"no room on cpu for 64 slots .* serve with fewer"):
        pool_of([(IMAGE,), (huge,)], [(huge,), ()], slots=64)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="there is CUDA here"
)
def test_cuda_that_is_not_there_is_an_error_and_no_fallback() -> None:
    with pytest.raises(ProviderError, match="install the extra `gpu`"):
        Device("cuda")
