"""Say why one image got its verdict.

In: an image, a detector. Out: parts of its score, nearest training images, maps of where prompts look.
"""
