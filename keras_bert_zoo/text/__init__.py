"""Text to token ids and back, in TensorFlow ops that stock TF Serving and LiteRT have."""

from keras_bert_zoo.text.tokenizer import Tokenizer
from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

__all__ = ["Tokenizer", "WordPieceTokenizer"]
