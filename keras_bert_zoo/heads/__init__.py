"""Heads: layers that map the output of an encoder of any family to the logits of a task."""
