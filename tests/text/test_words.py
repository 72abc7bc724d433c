"""Words of tokenizers, and the windows that decide on spans of words."""

import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
from keras_bert_zoo.text.words import decided_spans, decided_tokens, word_flags
from tests.helpers import eagerly
from tests.tasks.taggers import VOCABULARY


def test_words_of_other_tokenizers():
    pieces = ["Ġa", "b", ".", "Ġ", "c", "<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    letters = ["a", "Ċ", *pieces]
    tokenizer = ByteBpeTokenizer.__new__(ByteBpeTokenizer)
    tokenizer.vocabulary = letters
    tokenizer.added_tokens = ()
    flags = word_flags(tokenizer)
    named = {token: tuple(map(bool, flag)) for token, flag in zip(letters, flags, strict=True)}
    assert named["Ġa"] == (True, False)
    assert named["b"] == (False, False)
    assert named["."] == (True, True)


@pytest.mark.parametrize(("max_length", "stride"), [(8, 3), (8, 2), (9, 0), (48, None)])
@eagerly()
def test_windows_give_each_span_to_the_one_with_most_context(max_length, stride):
    stride = (max_length - 2) // 4 if stride is None else stride
    tokenizer = kbz.WordPieceTokenizer(VOCABULARY)
    texts = ["abc card, " * 3 + "end", "", "a", "天气" * 7]
    windows = tokenizer.windows(texts, max_length=max_length, stride=stride)
    least, limit = (part.numpy() for part in decided_spans(windows, stride))
    lengths = windows["padding_mask"].numpy().sum(axis=1) - 2
    documents, begins = windows["document"].numpy(), windows["window_start"].numpy()
    tokens = decided_tokens(windows, stride).numpy()
    held = 0
    for document in range(len(texts)):
        here = np.flatnonzero(documents == document)
        count = begins[here[-1]] + lengths[here[-1]]
        for first in range(count):
            for last in range(first, count):

                def context_of(w, first=first, last=last, here=here):
                    left, right = first - begins[w], begins[w] + lengths[w] - 1 - last
                    if left < 0 or right < 0:
                        return -1
                    left = np.inf if w == here[0] else left
                    return min(left, np.inf if w == here[-1] else right)

                middles = first + last + 2 * (1 - begins[here])
                own = here[(least[here] <= middles) & (middles < limit[here])]
                assert len(own) == 1
                assert context_of(own[0]) == max(map(context_of, here))
                held += context_of(own[0]) >= 0
                if first == last:
                    assert tokens[own[0], first - begins[own[0]] + 1]
    assert held > 30
