"""Compare two checkouts of this project: their HTTP responses and their throughput."""
