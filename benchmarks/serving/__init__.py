"""Measure how much of the savings of early exits reaches clients, beside other servers."""
