"""Small networks run fastest on one thread, and more would slow whatever runs beside them."""

import torch

torch.set_num_threads(1)
