"""lsn: find the images that do not belong, with CLIP and learned negative prompts."""

__version__ = "0.1.0"
