"""The queues of a scheduler: of requests for each stage, and of copies."""
