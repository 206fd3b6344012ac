"""The exchange of a client with a server, that both clients have in common."""
