"""Decide which images are OOD, and act on it: calibrate, score, watch a folder, sort images.

In: images or a split, a detector. Out: a verdict for each image; a calibrated detector; sorted folders.
"""
