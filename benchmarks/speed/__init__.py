"""How fast: ratios of time and memory against plain baselines. Run as ``python -m benchmarks.speed.NAME``."""
