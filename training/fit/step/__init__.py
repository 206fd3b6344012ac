"""A step of training: the gradient of a batch, and the optimizers that it drives."""
