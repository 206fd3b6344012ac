"""The scheduler, its queues for each stage and for copies, and the next stage."""
