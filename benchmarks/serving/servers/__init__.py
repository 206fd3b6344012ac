"""Start the servers that are compared, each as a command."""
