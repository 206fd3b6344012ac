"""Image files: their format, size and cost from the header, and their pixels as 8-bit RGB."""
