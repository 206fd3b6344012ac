"""Fit when to reject an answer: the picture shows no class of the model."""

RATE = 0.05
PHOTOS_HELP = (
    "photos of other things than the classes (folder, parquet file or data set). Answers can then "
    "say that a picture shows no class of the model"
)
RATE_HELP = "share of the held-out images that each exit can reject wrongly, with --reject"
