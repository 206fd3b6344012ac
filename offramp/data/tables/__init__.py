"""Tables with a file and a label in each row: CSV, or JSON Lines."""
