"""Offramp serving: answers each image at the earliest exit that its budget allows."""
