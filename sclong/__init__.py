"""Pretrain, run and judge scLong: from corpus to benchmark tables."""

__version__ = "0.1.0"
