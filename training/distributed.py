"""Several processes that train one network, as `torchrun` starts them.

Each computes its share of every batch; gradients are averaged. Batch norm takes its statistics
of a share (or micro-batch) alone, as torch's DistributedDataParallel does by default and the
papers' multi-GPU runs did: synchronising them costs a message for every layer, of which an
MSDNet has hundreds, and cannot be had on the CPU. So a share should not be very small (16
images, say). The running statistics, which only evaluation reads, are averaged over the
processes when they are needed: as they are linear in the statistics of a batch, that is what
running averages of all shares would have been.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

PATIENCE = timedelta(minutes=10)  # with the others, before a process gives up


def processes() -> int:
    """How many train together; 1 without `torchrun`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0; 0 writes and speaks."""
    return dist.get_rank() if processes() > 1 else 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did; NCCL on CUDA, else Gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo", timeout=PATIENCE, device_id=device if cuda else None
    )
    yield
    # not after an error: to leave in good order would be to wait for the others
    dist.destroy_process_group()


def local_rank() -> int:
    """Which of the processes on this host this one is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def cores() -> int:
    """CPU cores for each process on this host."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def share(batch: Tensor) -> Tensor:
    """The part of a batch [N, ...] that this process computes, [N / processes, ...]."""
    return batch.tensor_split(processes())[rank()]


def total(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if processes() > 1:
        dist.all_reduce(tensor)
    return tensor


def average(tensor: Tensor) -> None:
    """Replace a tensor by its mean over all processes."""
    if processes() > 1:
        total(tensor).div_(processes())


def average_statistics(network: nn.Module) -> None:
    """Replace batch norm's running statistics by their means over all processes."""
    if processes() > 1:
        for module in network.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                average(module.running_mean)
                average(module.running_var)


def same_everywhere(number: int, device: torch.device) -> bool:
    """Whether all processes gave the same number."""
    mean = torch.tensor(float(number), dtype=torch.float64, device=device)
    average(mean)
    agreed = torch.tensor(float(mean == number), device=device)
    return float(total(agreed)) == processes()
