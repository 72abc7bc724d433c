"""Readers for the formats people have, and input pipelines of tokenized rows."""
