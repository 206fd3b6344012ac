"""Limit torch to one thread: small networks are fastest so, and tests run in parallel."""

import torch

torch.set_num_threads(1)
