"""Static networks, which every early exit is measured against, beside chains."""
