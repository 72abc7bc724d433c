"""Pretraining: corpora, vocabularies, examples, objectives and their tasks."""
