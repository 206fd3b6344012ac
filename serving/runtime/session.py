"""ONNX Runtime sessions: open them, and check their inputs and outputs.

Every batch runs in the calling thread, which releases the GIL. Parallelism comes from the engine's
threads, not from threads inside a session, which would spin while idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import TensorSpec
from serving.errors import ProviderError
from serving.runtime.memory import SHARED_ARENA, make_arena
from serving.settings import Provider

Providers = Sequence[tuple[str, Mapping[str, str]]]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
DTYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "float16": "tensor(float16)"}
ALIGNMENT = 64  # bytes: a cache line
_WEIGHT_BYTES = 1024  # smaller tensors can be shapes, which ONNX Runtime needs in the graph
_CUDA_OPTIONS = {
    # Plans are made once for each session and convolution. With many sessions, an exhaustive
    # search would make every start slow.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Budgets were solved in full float32. For tensor cores use a bundle in float16: its budgets
    # were solved in float16.
    "use_tf32": "0",
    # Each session has an arena of its own, which must not double in size.
    "arena_extend_strategy": "kSameAsRequested",
}
FATAL = 4  # log severity: errors are raised, so they need no line in the log


def providers_of(provider: Provider, device: int) -> Providers:
    """Return the execution providers of a session. There is no fallback to another one.

    Raises:
        ProviderError: The provider is not available.
    """
    if provider == "cpu":
        return [(CPU, {})]
    if CUDA not in ort.get_available_providers():
        raise ProviderError(
            "provider cuda: this ONNX Runtime has no CUDA; install the extra `gpu` instead of `cpu`"
        )
    ort.preload_dlls()  # finds CUDA libraries that are installed as Python packages
    return [(CUDA, {"device_id": str(device), **_CUDA_OPTIONS})]


def session_options(*, optimise: bool = True, provider: str = CPU) -> ort.SessionOptions:
    """Return options for a session with one thread, which does not spin."""
    options = ort.SessionOptions()
    _set_memory(options, provider)
    options.log_severity_level = FATAL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _set_memory(options: ort.SessionOptions, provider: str) -> None:
    """Let sessions on the CPU share an arena, and those on a device use nothing but the device."""
    if provider == CPU:
        make_arena()
        options.add_session_config_entry(SHARED_ARENA, "1")
        return
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # Weights stay outside the arena, which would keep their room after they moved.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


def common_weights(
    model: ModelProto, device: str = "cpu", number: int = 0
) -> dict[str, ort.OrtValue]:
    """Load a graph's weights, by name, once for all sessions that run it or parts of it.

    Sessions do not keep them alive.
    """
    return ort_values(aligned(weights_of(model)), device, number)


def weights_of(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Return a graph's large weights by name."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: array for name, array in arrays.items() if array.nbytes >= _WEIGHT_BYTES}


def ort_values(
    arrays: Mapping[str, NDArray[np.generic]], device: str = "cpu", number: int = 0
) -> dict[str, ort.OrtValue]:
    """Return arrays as values of ONNX Runtime, on the CPU without a copy."""
    return {
        name: ort.OrtValue.ortvalue_from_numpy(array, device, number)
        for name, array in arrays.items()
    }


def aligned_empty(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array without values that begins on a cache line, where kernels are fastest."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(kind).reshape(shape)


def aligned(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return copies of arrays that begin on a cache line."""
    copies = {name: aligned_empty(array.shape, array.dtype) for name, array in arrays.items()}
    for name, copy in copies.items():
        copy[...] = arrays[name]
    return copies


def use_weights(
    options: ort.SessionOptions, model: ModelProto, weights: Mapping[str, ort.OrtValue]
) -> None:
    """Let a session of the graph use weights that are loaded already."""
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in weights]
    values = {tensor.name: weights[tensor.name] for tensor in tensors}
    outside = [each.name for each in tensors if each.data_location == TensorProto.EXTERNAL]
    _use_values(options, values, outside)


def _use_values(
    options: ort.SessionOptions, values: Mapping[str, ort.OrtValue], outside: Sequence[str]
) -> None:
    """Let a session use these values. The graph has only the shapes of those `outside`."""
    for name, value in values.items():
        options.add_initializer(name, value)
    if outside:
        options.add_external_initializers([*outside], [values[name] for name in outside])


def open_session(
    path: Path,
    graph: bytes | ModelProto,
    providers: Providers,
    weights: Mapping[str, ort.OrtValue] | None = None,
) -> ort.InferenceSession:
    """Open a session of a bundle's graph.

    Args:
        path: File of the graph, for error messages.
        graph: The graph, as bytes or parsed.
        providers: Execution providers, as `providers_of` returns them.
        weights: Weights that a parsed graph uses instead of its own, by name.

    Raises:
        BundleError: The graph cannot be loaded.
        ProviderError: The provider is not available.
    """
    wanted = providers[0][0]
    options = session_options(provider=wanted)
    if isinstance(graph, ModelProto):
        use_weights(options, graph, weights or {})
        graph = graph.SerializeToString()
    try:
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:
        raise _load_error(path, wanted, error) from error
    _check_used(session, wanted)
    return session


def _check_used(session: ort.InferenceSession, provider: str) -> None:
    """Check that ONNX Runtime uses a provider. It falls back to the CPU although that is off."""
    if session.get_providers()[0] != provider:
        raise ProviderError(
            f"{provider} cannot be used; check the driver, the device number and the extra `gpu`"
        )


def open_with_weights(
    model: ModelProto, weights: Mapping[str, ort.OrtValue], optimised: Path | None = None
) -> ort.InferenceSession:
    """Open a session on the CPU that uses weights which are loaded already.

    Args:
        model: The graph, which runs as it is.
        weights: The weights, by name.
        optimised: Optimise the graph first, and write it to this file.
    """
    options = session_options(optimise=optimised is not None)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    use_weights(options, model, weights)
    return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])


def open_by_names(
    graph: bytes, names: Sequence[str], weights: Mapping[str, ort.OrtValue]
) -> ort.InferenceSession:
    """Open a session on the CPU of a graph that runs as it is.

    Args:
        graph: The graph, with the shapes of some weights only.
        names: Names of those.
        weights: Their values, by name.
    """
    options = session_options(optimise=False)
    _use_values(options, {name: weights[name] for name in names}, names)
    return ort.InferenceSession(graph, options, providers=[CPU])


def _load_error(path: Path, provider: str, error: Exception) -> BundleError | ProviderError:
    if provider == CPU:
        return BundleError(path, f"cannot be loaded on {provider}: {error}")
    # the hash was right, so the device is the likelier cause
    return ProviderError(
        f"{provider} cannot be used ({error}); check the driver, the device number and the "
        f"extra `gpu`, and whether {path} can be served on the CPU"
    )


def check_tensors(
    path: Path, what: str, found: Iterable[ort.NodeArg], expected: Iterable[TensorSpec]
) -> None:
    """Check that a graph's inputs or outputs are as the manifest says.

    Raises:
        BundleError: They differ, or their batch axis is fixed.
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
