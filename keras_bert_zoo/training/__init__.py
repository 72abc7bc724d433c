"""Evaluation metrics, and what training needs besides Keras."""
