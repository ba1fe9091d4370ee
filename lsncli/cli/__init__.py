"""The command line: one file per command, which parses, calls a use case and renders.

In: arguments, the environment, ``lsn.toml``. Out: rows on stdout, remarks on stderr, an exit code.
"""
