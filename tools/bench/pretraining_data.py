"""Speed and memory of `build_pretraining_data`, against a plain builder in Python.

    python tools/bench/pretraining_data.py --text wiki.txt.gz [--megabytes 50 500] [--plain 5]

Makes corpora of the given sizes: the sentences of the text again and again, each time with other
words in a tenth of the places, so that no document is repeated. Sentences are lines, and headings
begin documents. Each build is a new process and makes pairs of next-sentence prediction with static
masks, of at most 128 tokens.

The plain builder works as create_pretraining_data.py of google-research/bert: it keeps all
documents in memory, and splits texts into word pieces, chooses pairs, masks tokens and fills
tf.train.Example messages in Python, token by token. It is measured on the first megabytes only.

The speed is the size of the text per second of processor time, over all threads, without imports.
The memory is the peak of the resident set.
"""

import argparse
import collections
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tables import Table, add_json_option, report

MAX_LENGTH = 128
MASK_RATE = 0.15
CHANGED = 0.1


# === Corpora ===


def sentences_of(path):
    """The documents of a text, lists of sentences; headings begin them."""
    from keras_bert_zoo.pretraining.sentences import split_by_rules

    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    documents = [[]]
    for line in lines:
        if line.startswith("=") and line.endswith("="):
            documents.append([])
        elif line:
            documents[-1] += split_by_rules(line)
    return [document for document in documents if document]


def write_corpus(documents, path, size):
    """Writes the documents again and again, with other words each time."""
    words = [word for document in documents for sentence in document for word in sentence.split()]
    draw = random.Random(0)
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size:
            for document in documents:
                lines = []
                for sentence in document:
                    parts = sentence.split()
                    for _ in range(max(1, round(CHANGED * len(parts)))):
                        parts[int(draw.random() * len(parts))] = words[
                            int(draw.random() * len(words))
                        ]
                    lines.append(" ".join(parts))
                text = "\n".join(lines) + "\n\n"
                file.write(text)
                written += len(text.encode())
                if written >= size:
                    break


# === The plain builder ===


def basic_tokens(text):
    """Lower-cased words without accents; punctuation and Chinese characters are words."""
    words, word = [], []
    for character in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(character)
        if category == "Mn" or character in "\0\ufffd":
            continue
        code = ord(character)
        if character.isspace() or category == "Zs":
            if word:
                words.append("".join(word))
                word = []
        elif (
            33 <= code <= 47
            or 58 <= code <= 64
            or 91 <= code <= 96
            or 123 <= code <= 126
            or category.startswith("P")
            or 0x4E00 <= code <= 0x9FFF
        ):
            if word:
                words.append("".join(word))
                word = []
            words.append(character)
        else:
            word.append(character)
    if word:
        words.append("".join(word))
    return words


def word_pieces(word, vocabulary):
    """The longest pieces from the left."""
    if len(word) > 200:
        return ["[UNK]"]
    pieces, start = [], 0
    while start < len(word):
        end = len(word)
        while end > start:
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                break
            end -= 1
        if end == start:
            return ["[UNK]"]
        pieces.append(piece)
        start = end
    return pieces


def pairs_of(documents, number, draw):
    """Pairs of segments of a document; too long ones are truncated."""
    document, room = documents[number], MAX_LENGTH - 3
    result, chunk, length, index = [], [], 0, 0
    limit = draw.randint(2, room) if draw.random() < 0.1 else room
    while index < len(document):
        chunk.append(document[index])
        length += len(document[index])
        if index == len(document) - 1 or length >= limit:
            middle = draw.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
            first = [token for part in chunk[:middle] for token in part]
            is_random = len(chunk) == 1 or draw.random() < 0.5
            second = []
            if is_random:
                other = number
                for _ in range(10):
                    other = draw.randint(0, len(documents) - 1)
                    if other != number:
                        break
                source = documents[other]
                for part in source[draw.randint(0, len(source) - 1) :]:
                    second += part
                    if len(second) >= limit - len(first):
                        break
                index -= len(chunk) - middle
            else:
                second = [token for part in chunk[middle:] for token in part]
            while len(first) + len(second) > room:
                longer = first if len(first) > len(second) else second
                longer.pop(0 if draw.random() < 0.5 else -1)
            if first and second:
                result.append((first, second, int(is_random)))
            chunk, length = [], 0
            limit = draw.randint(2, room) if draw.random() < 0.1 else room
        index += 1
    return result


def masked(tokens, words, draw):
    """Masks tokens; returns them, and the places and the original tokens of the masks."""
    places = [place for place, token in enumerate(tokens) if token not in ("[CLS]", "[SEP]")]
    draw.shuffle(places)
    output, labels = list(tokens), []
    for place in places[: max(1, round(MASK_RATE * len(tokens)))]:
        chance = draw.random()
        if chance < 0.8:
            output[place] = "[MASK]"
        elif chance < 0.9:
            output[place] = words[draw.randint(0, len(words) - 1)]
        labels.append((place, tokens[place]))
    labels.sort()
    return output, labels


def build_plainly(text, vocabulary_file, output):
    """Text -> TFRecord file, all in memory."""
    import tensorflow as tf

    words = vocabulary_file.read_text("utf-8").splitlines()
    vocabulary = {word: index for index, word in enumerate(words)}
    draw = random.Random(0)
    documents = [[]]
    with open(text, encoding="utf-8") as file:
        for line in file:
            if not line.strip():
                documents.append([])
                continue
            tokens = [p for word in basic_tokens(line) for p in word_pieces(word, vocabulary)]
            if tokens:
                documents[-1].append(tokens)
    documents = [document for document in documents if document]
    draw.shuffle(documents)
    examples = []
    for number in range(len(documents)):
        for first, second, label in pairs_of(documents, number, draw):
            tokens = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
            segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
            examples.append((*masked(tokens, words, draw), segments, label))
    draw.shuffle(examples)

    def numbers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(output)) as writer:
        for tokens, labels, segments, label in examples:
            padding = [0] * (MAX_LENGTH - len(tokens))
            features = collections.OrderedDict(
                input_ids=numbers([vocabulary[token] for token in tokens] + padding),
                input_mask=numbers([1] * len(tokens) + padding),
                segment_ids=numbers(segments + padding),
                masked_lm_positions=numbers([place for place, _ in labels]),
                masked_lm_ids=numbers([vocabulary[token] for _, token in labels]),
                next_sentence_labels=numbers([label]),
            )
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return len(examples)


# === Measurements ===


def measure(builder, text, tokenizer, output, processes):
    """Runs in a new process; prints the figures as JSON."""
    import tensorflow as tf

    from keras_bert_zoo.data.masking_options import Masking
    from keras_bert_zoo.pretraining.build import build_pretraining_data

    # One core, as in the processes of a build. A thread that waits for another one takes time, too.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.list_logical_devices()
    started, wall = time.process_time(), time.perf_counter()
    if builder == "plain":
        examples = build_plainly(text, tokenizer / "vocab.txt", output / "plain.tfrecord")
    else:
        data = build_pretraining_data(
            [text], output / "data", tokenizer, max_length=MAX_LENGTH, pairs="next_sentence",
            sentences="lines", masking=Masking(), heldout=0.01, processes=processes,
        )  # fmt: skip
        examples = sum(shard.examples for shard in data.train)
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if processes > 1:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds += children.ru_utime + children.ru_stime
        kilobytes = max(kilobytes, children.ru_maxrss)
    print(json.dumps([seconds, wall, kilobytes / 2**10, examples]))


def run(builder, text, tokenizer, processes=1):
    """Measures a build in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [builder, text, tokenizer, folder, processes]
        command = [sys.executable, __file__, "--measure", *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    if "--measure" in sys.argv:
        builder, text, tokenizer, output, processes = sys.argv[2:]
        measure(builder, Path(text), Path(tokenizer), Path(output), int(processes))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="WikiText or a text like it")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with a vocab.txt")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--plain", type=int, default=5, help="megabytes of the plain builder")
    parser.add_argument("--processes", type=int, default=1)
    add_json_option(parser)
    args = parser.parse_args()
    documents = sentences_of(args.text)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        runs = [("plain", args.plain, 1), *(("package", n, args.processes) for n in args.megabytes)]
        plain = None
        for builder, megabytes, processes in runs:
            write_corpus(documents, text, megabytes * 1_000_000)
            seconds, wall, mebibytes, examples = run(builder, text, args.tokenizer, processes)
            speed = megabytes / seconds
            plain = plain or speed
            name = f"{builder}, {megabytes} MB"
            if processes > 1:
                name += f", {processes} processes"
            rows[name] = [examples, speed, speed / plain, megabytes / wall, mebibytes]
            print(name, rows[name], file=sys.stderr, flush=True)
    columns = {
        "examples": ",.0f",
        "MB per second of a core": ".2f",
        "times the plain builder": ".1f",
        "MB/s": ".2f",
        "peak memory of a process (MiB)": ",.0f",
    }
    plotted = ["MB per second of a core"]
    table = Table("building_pretraining_data", "builder", columns, rows, "MB/s", plotted)
    report([table], args.json)


if __name__ == "__main__":
    main()
