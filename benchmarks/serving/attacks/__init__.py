"""Requests that are meant to stop or to fill a server, and their cost."""
