"""Prompt learning as mathematics: contexts, the frozen text tower, losses, learners. No files."""
