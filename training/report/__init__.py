"""The report of a run: page, figures, TensorBoard events."""
