"""Learn from a split: prompts, linear heads, CLIPN's text encoder, image encoders.

In: a labelled split, settings. Out: an artefact in the workspace, and its history.
"""
