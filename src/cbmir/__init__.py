"""cbmir: content-based medical image retrieval."""

__version__ = "0.1.0"
