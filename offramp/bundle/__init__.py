"""The bundle, which the exporter writes and the server reads."""
