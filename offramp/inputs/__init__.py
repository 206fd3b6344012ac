"""Images and data sets as callers give them."""
