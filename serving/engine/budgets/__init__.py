"""Budgets: points of the curve by name, by flops and by milliseconds of this machine."""
