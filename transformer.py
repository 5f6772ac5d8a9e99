"""The model, as the course imports it; to read it, open wikigpt/transformer.py."""

from wikigpt.transformer import FeedForward, GPTModel, KVCache, MultiHeadAttention, TransformerBlock

__all__ = ["FeedForward", "GPTModel", "KVCache", "MultiHeadAttention", "TransformerBlock"]
