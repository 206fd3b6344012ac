"""ONNX Runtime sessions: how they are opened, and what their tensors are.

Every batch runs in the thread that calls, which releases the GIL: parallelism comes from the
engine's threads, not from threads inside a session (idle ones would spin).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from serving.errors import BundleError, ProviderError
from serving.manifest import TensorSpec

Provider = Literal["cpu", "cuda"]
Providers = Sequence[tuple[str, Mapping[str, str]]]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
DTYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "float16": "tensor(float16)"}
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
    return [(CUDA, {"device_id": str(device)})]


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


def open_session(path: Path, graph: bytes, providers: Providers) -> ort.InferenceSession:
    """A session of a bundle's graph.

    Raises:
        BundleError: the graph cannot be loaded; `path` says which.
        ProviderError: the provider is not to be had.
    """
    wanted = providers[0][0]
    options = session_options()
    if wanted != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
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
