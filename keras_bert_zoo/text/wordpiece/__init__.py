"""WordPiece: the tokenizer of BERT, DistilBERT, ELECTRA, MobileBERT, MPNet and RoFormer."""
