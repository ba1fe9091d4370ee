"""What was learned, on disk: prompts and calibrated detectors as safetensors with JSON metadata."""
