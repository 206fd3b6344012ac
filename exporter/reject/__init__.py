"""Fit when to reject an answer: the picture is of none of the classes."""

RATE = 0.05
PHOTOS_HELP = (
    "photos of other things than the classes (folder, parquet file or data set). Answers can then "
    "say that a picture is of none of the classes"
)
RATE_HELP = "share of the held-out images that each exit can reject wrongly, with --reject"
