"""ONNX Runtime sessions: how they are opened, and what their tensors are.

Every batch runs in the thread that calls, which releases the GIL: parallelism comes from the
engine's threads, not from threads inside a session (idle ones would spin).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import TensorSpec
from serving.errors import ProviderError
from serving.settings import Provider

Providers = Sequence[tuple[str, Mapping[str, str]]]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
DTYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "float16": "tensor(float16)"}
ALIGNMENT = 64  # bytes: a cache line
_SHARED_BYTES = 1024  # smaller ones may be shapes, which ONNX Runtime wants to see in the graph
_CUDA_OPTIONS = {
    # Plans for one shape are made once a session and convolution; an exhaustive search would
    # take that long at every start, for each of many sessions.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Budgets were solved in full float32. Who wants tensor cores takes a bundle in float16,
    # whose budgets were solved on it.
    "use_tf32": "0",
    # each session has an arena of its own: none is to double
    "arena_extend_strategy": "kSameAsRequested",
}
FATAL = 4  # log severity: what goes wrong is raised, and need not be logged as well


def providers_of(provider: Provider, device: int) -> Providers:
    """What to run on; there is no fallback from one to another.

    Raises:
        ProviderError: it is not to be had.
    """
    if provider == "cpu":
        return [(CPU, {})]
    if CUDA not in ort.get_available_providers():
        raise ProviderError(
            "provider cuda: this ONNX Runtime has no CUDA; install the extra `gpu` instead of `cpu`"
        )
    ort.preload_dlls()  # finds the CUDA libraries that come as Python packages
    return [(CUDA, {"device_id": str(device), **_CUDA_OPTIONS})]


def session_options(*, optimise: bool = True) -> ort.SessionOptions:
    """One thread, which does not spin."""
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def shared_weights(
    model: ModelProto, device: str = "cpu", number: int = 0
) -> dict[str, ort.OrtValue]:
    """A graph's weights by name, once for all sessions that run it or parts of it.

    Sessions do not keep them alive.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        name: ort.OrtValue.ortvalue_from_numpy(_aligned(array), device, number)
        for name, array in arrays.items()
        if array.nbytes >= _SHARED_BYTES
    }


def _aligned(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """A copy that begins on a cache line, as kernels have it best."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def share(
    options: ort.SessionOptions, model: ModelProto, weights: Mapping[str, ort.OrtValue]
) -> None:
    """Let a session of the graph take those of its weights that are there already."""
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            options.add_initializer(tensor.name, weights[tensor.name])


def open_session(
    path: Path,
    graph: bytes | ModelProto,
    providers: Providers,
    weights: Mapping[str, ort.OrtValue] | None = None,
) -> ort.InferenceSession:
    """A session of a bundle's graph; of a graph that was read, with shared weights.

    Raises:
        BundleError: the graph cannot be loaded; `path` says which.
        ProviderError: the provider is not to be had.
    """
    wanted = providers[0][0]
    options = session_options()
    if wanted != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # weights outside the arena, which would keep room for them after they moved
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if isinstance(graph, ModelProto):
        share(options, graph, weights or {})
        graph = graph.SerializeToString()
    try:
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:
        if wanted != CPU:  # the hash was right; of what can fail, the device is the likelier
            raise ProviderError(
                f"{wanted} cannot be used ({error}); check the driver, the device number and the "
                f"extra `gpu`, and whether {path} can be served on the CPU"
            ) from error
        raise BundleError(path, f"cannot be loaded on {wanted}: {error}") from error
    # ONNX Runtime falls back to the CPU in silence, whatever it was told.
    if session.get_providers()[0] != wanted:
        raise ProviderError(
            f"{wanted} cannot be used; check the driver, the device number and the extra `gpu`"
        )
    return session


def check_tensors(
    path: Path, what: str, found: Iterable[ort.NodeArg], expected: Iterable[TensorSpec]
) -> None:
    """Whether a graph's inputs or outputs are as the manifest says.

    Raises:
        BundleError: they are not, or their batch axis is fixed.
    """
    described = {spec.name: (DTYPES[spec.dtype], spec.shape) for spec in expected}
    actual = {arg.name: (arg.type, tuple(arg.shape)) for arg in found}
    if described.keys() != actual.keys():
        raise BundleError(
            path, f"{what}s are {sorted(actual)}, the manifest says {sorted(described)}"
        )
    for name, (dtype, shape) in described.items():
        batch, *rest = actual[name][1] or (0,)
        if actual[name][0] != dtype or tuple(rest) != shape:
            wanted = (dtype, ("N", *shape))
            raise BundleError(path, f"{what} {name} is {actual[name]}, the manifest says {wanted}")
        if isinstance(batch, int):
            raise BundleError(path, f"{what} {name} has a fixed batch axis; export it dynamic")
