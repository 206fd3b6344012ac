"""Options, help texts and exit codes of every command."""
