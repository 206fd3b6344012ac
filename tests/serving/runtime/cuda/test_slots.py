from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnxruntime as ort
import pytest

from offramp.bundle.manifest import TensorSpec
from serving.errors import ProviderError
from serving.runtime.cuda.graph import SLOTS
from serving.runtime.cuda.slots import CudaSlots, Device

SLOT_COUNT = 6


Dtype = Literal["uint8", "float32", "float16"]


def spec(name: str, *shape: int, dtype: Dtype = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


IMAGE = spec("image", 3, 5, 3, dtype="uint8")
A, B, C, D = (spec(name, 2, 4) for name in "abcd")
SMALL = spec("small", 4)


def pool_of(
    inputs: Sequence[Sequence[TensorSpec]],
    features: Sequence[Sequence[TensorSpec]],
    slots: int = SLOT_COUNT,
) -> CudaSlots:
    return CudaSlots(inputs, features, slots, Device("cpu"))


def addresses(pool: CudaSlots) -> dict[str, int]:
    return {name: rows.address for name, rows in pool.rows.items()}


def test_features_that_no_stage_uses_together_have_the_same_memory() -> None:
    """A stage reads `b` and writes `c` when no stage reads `a` any more."""
    at = addresses(pool_of([(IMAGE,), (A,), (B,), (C,)], [(A,), (B,), (C,), ()]))
    assert at["a"] == at["c"] != at["b"]


def test_a_feature_that_is_read_late_keeps_its_memory_until_then() -> None:
    at = addresses(pool_of([(IMAGE,), (A,), (B,), (C,), (A, D)], [(A,), (B,), (C,), (D,), ()]))
    assert at["b"] == at["d"]
    assert len(set(at.values())) == 3


def test_features_with_rows_of_other_lengths_have_other_memory() -> None:
    """Row 3 of one would overlap rows 2 and 4 of the other."""
    at = addresses(pool_of([(IMAGE,), (A,), (B,), (SMALL,)], [(A,), (B,), (SMALL,), ()]))
    assert len(set(at.values())) == 3


def test_there_is_one_row_more_than_slots() -> None:
    pool = pool_of([(IMAGE,), (A,)], [(A,), ()])
    assert pool.spare == SLOT_COUNT
    assert pool.rows["a"].shape == [SLOT_COUNT + 1, 2, 4]
    assert pool.nbytes == (SLOT_COUNT + 1) * 3 * 5 * 3 + 256  # of 7 * 32


def test_features_are_consecutive_in_memory() -> None:
    rows = pool_of([(IMAGE,), (A, SMALL)], [(A, SMALL), ()], slots=9).rows
    assert rows["small"].address - rows["a"].address == 512  # 10 * 32, padded


def test_a_stage_gets_the_numbers_of_slots_only() -> None:
    pool = pool_of([(IMAGE,), (A,)], [(A,), ()])
    slots = pool.take(3)
    image = np.full(IMAGE.shape, 9, np.uint8)
    pool.put(slots[1], image)
    np.testing.assert_array_equal(pool.images[slots[1]], image)
    for stage in (0, 1):
        (given,) = pool.gather(stage, slots).items()
        assert given[0] == SLOTS
        assert given[1].tolist() == slots


def test_slots_that_do_not_fit_are_refused_with_a_remedy() -> None:
    huge = spec("huge", 1 << 30, 1 << 10)
    with pytest.raises(ProviderError, match=r"no room on cpu for 64 slots .* serve with fewer"):
        pool_of([(IMAGE,), (huge,)], [(huge,), ()], slots=64)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is available"
)
def test_cuda_that_is_not_available_is_an_error_without_fallback() -> None:
    with pytest.raises(ProviderError, match="install the extra `gpu`"):
        Device("cuda")
