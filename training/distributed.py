"""Several processes that train one network, started by `torchrun`.

Each process computes a shard of every batch. Gradients are averaged. Batch norm computes its
statistics on a shard (or micro-batch), as torch's DistributedDataParallel does by default and as
in the papers' multi-GPU runs. Synchronised batch norm would cost a message for every layer, and an
MSDNet has hundreds of layers. It is not available on the CPU. A shard should therefore not be very
small: 16 images or more. The running statistics, which only evaluation reads, are averaged over
the processes when they are needed. They are linear in the statistics of a batch, so the result
equals running averages over all shards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from offramp.cores import cores

TIMEOUT = timedelta(minutes=10)  # of a message between processes
PATIENCE = timedelta(days=30)  # of a process that waits for work that another one does alone


def processes() -> int:
    """Return the number of processes, which is 1 without `torchrun`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0. Rank 0 writes files and prints."""
    return dist.get_rank() if processes() > 1 else 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, if any, by NCCL on CUDA, else Gloo.

    `wait_for_first` has a group of its own. It is made here, where no process is late.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo", timeout=TIMEOUT, device_id=device if cuda else None
    )
    _waiting.cache_clear()
    _waiting()
    yield
    # not after an error: it would wait for the other processes
    dist.destroy_process_group()


def local_rank() -> int:
    """Return the number of this process among those on this host, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def cores_per_process() -> int:
    """Return the number of CPU cores for each process of this run on this host."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def shard(batch: Tensor) -> Tensor:
    """Return the shard of a batch [N, ...] that this process computes, [N / processes, ...]."""
    return batch.tensor_split(processes())[rank()]


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over all processes and return it."""
    if processes() > 1:
        dist.all_reduce(tensor)
    return tensor


def average_over_processes(tensor: Tensor) -> None:
    """Replace a tensor by its mean over all processes."""
    if processes() > 1:
        sum_over_processes(tensor).div_(processes())


def average_statistics(*networks: nn.Module) -> None:
    """Replace batch norm's running statistics by their means over all processes.

    Those of batch norm with frozen weights are equal in all processes, and stay as they are.
    """
    if processes() == 1:
        return
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            if module.affine and not module.weight.requires_grad:
                continue
            average_over_processes(module.running_mean)
            average_over_processes(module.running_var)


def from_first_process(numbers: Sequence[float], device: torch.device) -> list[float]:
    """Return the numbers of rank 0. All processes pass equally many."""
    sent = torch.tensor(numbers, dtype=torch.float64, device=device)
    if processes() > 1:
        dist.broadcast(sent, src=0)
    received: list[float] = sent.tolist()
    return received


def wait_for_first() -> None:
    """Wait until rank 0 has called this too, at most `PATIENCE`. Rank 0 does not wait."""
    message = torch.zeros(1)
    if rank() > 0:
        received = dist.irecv(message, 0, _waiting())
        assert received is not None
        received.wait(PATIENCE)
        return
    for other in range(1, processes()):
        dist.send(message, other, _waiting())


@cache
def _waiting() -> dist.ProcessGroup:
    """Return a Gloo group of all processes, whose messages have a time limit each."""
    group: dist.ProcessGroup = dist.new_group(timeout=TIMEOUT, backend="gloo")
    return group


def equal_on_all_processes(number: int, device: torch.device) -> bool:
    """Return True if all processes pass the same number."""
    mean = torch.tensor(float(number), dtype=torch.float64, device=device)
    average_over_processes(mean)
    agreed = torch.tensor(float(mean == number), device=device)
    return float(sum_over_processes(agreed)) == processes()
