"""The feature store: one HDF5 file of image features, bound to one model. README.md is its format."""

NO_VERIFY = "LSN_NO_VERIFY"
"""The variable of `lsn --no-verify`: stores are read without comparing them with their checksums."""
