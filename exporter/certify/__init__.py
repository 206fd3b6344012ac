"""Certify the promises of a bundle that exists, on images without labels."""
