"""Certify operating points: how often their answers differ from those of full depth."""
