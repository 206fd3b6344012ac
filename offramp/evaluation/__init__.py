"""Measurement of budgets on labelled images, beside what the manifest states."""
