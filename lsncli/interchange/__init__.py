"""Import features of other programs into a store, and export them.

In: ``.npz``, ``.npy``, ``.safetensors``, ``.csv`` or ``.parquet``. Out: a split; and in the other direction.
"""
