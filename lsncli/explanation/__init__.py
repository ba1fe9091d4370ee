"""Say why one image got its verdict.

In: an image, a detector. Out: the parts of its score, the nearest training images, heat maps of prompts.
"""
