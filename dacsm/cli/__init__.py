"""The command line, in groups of commands."""
