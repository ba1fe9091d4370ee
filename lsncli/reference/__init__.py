"""Data files that ship with the package and their loaders: what is published, what the demo learns from."""
