"""Send requests at a stated rate and keep what came back."""
