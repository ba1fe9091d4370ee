"""How good: studies and ablations on the mini benchmark. Run as ``python -m benchmarks.accuracy.NAME``."""
