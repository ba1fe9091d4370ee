"""Make a score ready to run on a workspace: its head, its training rows, and whatever else it needs.

In: a workspace, the name of a method such as ``mcm:positive``. Out: a function from features to scores.
"""
