"""SentencePiece unigram: the tokenizer of ALBERT, CamemBERT, DeBERTa and XLM-RoBERTa."""
