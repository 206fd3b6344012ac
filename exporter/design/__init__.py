"""Choose the cheapest chain of networks by measurement on this machine."""
