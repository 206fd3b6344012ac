"""Train a network: optimizers, gradients, checkpoints."""
