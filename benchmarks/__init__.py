"""Measurements, and the scripts that rebuild what is bundled. Run as ``python -m benchmarks.NAME``."""
