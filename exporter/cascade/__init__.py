"""Cascades: a bundle made of several networks with the same labels, without training and torch.

- `options`, `network_options`: the options, and one value of each for every network.
- `networks/`: the networks as they were given, and as stages.
- `members`: all of them as stages, each compared with its file.
- `labels`: their common labels.
- `photos`: the held-out images.
- `run`: the command.
"""
