"""Report a run: page, figures, TensorBoard events."""
