"""The training of a network: optimizers, gradients, checkpoints."""
