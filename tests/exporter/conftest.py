"""Limit torch to one thread: small networks are fastest so, and tests run in parallel."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """Build torch's table of ONNX operators once.

    torch builds an equal one for each graph, which takes half of the export of a small stage.
    """
    # late: the import takes seconds, and every process of tests reads this file
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    once = staticmethod(cache(ONNXRegistry.from_torchlib))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", once)
        yield
