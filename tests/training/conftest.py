"""Limit torch to one thread: small networks run fastest, and other test processes keep theirs."""

import torch

torch.set_num_threads(1)
