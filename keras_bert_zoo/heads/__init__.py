"""Heads: family-blind layers that turn an encoder's output into a task's logits."""
