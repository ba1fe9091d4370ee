"""Compare methods on splits of a store, and check data sets and models.

In: ID and OOD splits, methods. Out: metrics (percent) for each pair of a method and an OOD split.
"""
