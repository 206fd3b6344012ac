"""Read data sets, decode and augment images, make batches."""
