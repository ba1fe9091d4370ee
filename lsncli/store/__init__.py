"""The feature store: one HDF5 file of image features, bound to one model. README.md is its format.

In: rows, labels, keys, failures and the model's fingerprint. Out: the same, checked; memory-mapped if large.
"""

NO_VERIFY = "LSN_NO_VERIFY"
"""The variable of `lsn --no-verify`: stores are read without comparing them with their checksums."""
