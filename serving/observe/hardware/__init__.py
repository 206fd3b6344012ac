"""Metrics of the hardware: a GPU, and the energy of processors and GPUs."""
