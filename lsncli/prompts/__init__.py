"""Prompt learning as mathematics: contexts, the frozen text tower, losses, learners. No files.

In: unit image features (N, D), labels, class names. Out: learned contexts, and text features of the classes.
"""
