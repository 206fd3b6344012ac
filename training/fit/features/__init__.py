"""Features of a frozen trunk: computed once for all images, kept on disk, and read by heads."""
