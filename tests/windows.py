"""A tokenizer of a few words, and windows of its texts."""

from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer

WORDS = [*"abcdefghij", "##x", "é", "南", "京"]
TOKENIZER = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])


def make_windows(texts, questions=None, max_length=12, stride=3):
    questions = ["a b"] * len(texts) if questions is None else questions
    return TOKENIZER.windows(texts, first=questions, max_length=max_length, stride=stride)
