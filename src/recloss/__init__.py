"""Recommendation losses through contrastive learning (arXiv 2312.08520 and 2312.08517)."""

__version__ = "0.1.0"
