"""Byte-level BPE: the tokenizer of RoBERTa and ModernBERT."""
