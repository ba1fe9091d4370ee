"""The command line: one file per command, each parses, calls a use case and renders."""
