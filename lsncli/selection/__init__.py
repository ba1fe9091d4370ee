"""The choice of a method for labelled ID images, without OOD images.

Two estimates of every method: ``near`` from classes that are left out, ``far`` from words and other splits.
"""
