"""Say why one image got its verdict.

In: an image, a detector. Out: the parts of its score, its nearest training images, maps of where prompts look.
"""
