"""A tiny tagger and its texts, for several test modules."""

import keras
import numpy as np

import keras_bert_zoo as kbz
from keras_bert_zoo.data.tagging import make_tags
from keras_bert_zoo.encoders.bert import BertEncoder
from keras_bert_zoo.export.verify import hostile_rows
from tests.tasks.small_models import without_dropout

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS),
    "the", "card", "天", "气", "!", "?", ".", ",",
]  # fmt: skip
TYPES = ["PER", "LOC"]
TEXTS = ["ab cd ef", "the card is here", "xx yy", "a.b c"] * 4
ENTITIES = [[(0, 2, "PER"), (3, 8, "LOC")], [(4, 8, "LOC")], [], [(0, 3, "PER")]] * 4


def make_task(scheme="IOB2", *, seed=1, max_length=16, loud=True, types=TYPES, **options):
    """Makes a tagger of two blocks. With random weights it finds entities in most texts."""
    keras.utils.set_random_seed(seed)
    config = kbz.EncoderConfig(
        vocabulary_size=len(VOCABULARY),
        hidden_dim=32,
        num_layers=2,
        num_heads=4,
        intermediate_dim=64,
        max_sequence_length=48,
        initializer_range=0.3,
    )
    task = kbz.TokenClassifier(
        BertEncoder(config, pooler=False),
        kbz.WordPieceTokenizer(VOCABULARY),
        make_tags(types, scheme),
        scheme=scheme,
        max_length=max_length,
        **options,
    )
    if loud:
        random = np.random.default_rng(seed)
        task.head.kernel.assign(random.normal(size=task.head.kernel.shape))
        if task.crf is not None:
            for weight in task.crf.weights:
                weight.assign(random.normal(scale=0.01, size=weight.shape))
    return task


def train(task, **options):
    return without_dropout(task).fit(
        TEXTS, ENTITIES, **{"epochs": 12, "learning_rate": 1e-2, "verbose": 0} | options
    )


def hostile(task):
    return [row[0] for row in hostile_rows(task)]


def check_cuts(texts, answers):
    """Checks that the text between the offsets of an entity is the entity."""
    count = 0
    for index, text in enumerate(texts):
        raw = text if isinstance(text, bytes) else text.encode()
        # The number of characters before each byte.
        before = np.cumsum([0] + [byte & 0xC0 != 0x80 for byte in raw])
        behind = 0
        for place, label in enumerate(answers["label"][index]):
            start, end = int(answers["start"][index][place]), int(answers["end"][index][place])
            entity = answers["entity"][index][place]
            assert raw[start:end] == entity
            if not label:
                assert (start, end, entity) == (0, 0, b"")
                continue
            count += 1
            assert behind <= start < end
            behind = end
            first = int(answers["start_character"][index][place])
            last = int(answers["end_character"][index][place])
            if isinstance(text, str):
                assert text[first:last].encode() == entity
            assert first == before[start]
            assert 0 < answers["score"][index][place] <= 1
    return count
