"""The feature store: one HDF5 file with the image features of one model. README.md specifies the format.

It stores rows, labels, keys, failures and the model's fingerprint. Reading verifies them; large splits are
memory-mapped.
"""

NO_VERIFY = "LSN_NO_VERIFY"
"""Environment variable of `lsn --no-verify`: stores are read without verifying their checksums."""
