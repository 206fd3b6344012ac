"""Measure training: what each objective gives, and what a step costs."""
