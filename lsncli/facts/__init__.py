"""Data files that ship with the package: the features that the demo learns from."""
