"""Turn images into a split of features in a store, by one process or by many.

In: sources of images, a backbone. Out: a split in ``features.h5``, and what became of every image.
"""
