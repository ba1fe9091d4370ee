"""Artefacts on disk: prompts, heads and calibrated detectors as safetensors files with JSON metadata.

In: what training or calibration made. Out: a file with a format version; older versions are read or named.
"""
