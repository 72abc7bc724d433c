"""Embeddings of texts, and search with them."""
