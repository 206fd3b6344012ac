"""Changes of the models in all workers: decided by the supervisor, made by each worker."""
