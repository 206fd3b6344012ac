"""Count how often answers differ from full depth, and test promises with these counts."""
