"""Prompt learning, computation only: contexts, the frozen text tower, losses, learners; no files.

In: unit image features (N, D), labels, class names. Out: learned contexts, and text features of the classes.
"""
