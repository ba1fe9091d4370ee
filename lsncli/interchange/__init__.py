"""Bring features from other programs into a store, and take them out again.

In: ``.npz``, ``.npy``, ``.safetensors``, ``.csv`` or ``.parquet``. Out: a split; or the other way round.
"""
