"""Data files that ship with the package, and their loaders.

In: nothing. Out: published tables, class lists, class splits, image sets, and the features of the demo.
"""
