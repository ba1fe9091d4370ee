"""The feature store: one HDF5 file of image features, bound to one model. README.md is its format."""
