"""The queues of a scheduler, of requests for each stage and of copies, and the next stage."""
