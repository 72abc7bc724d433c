"""Counts the answers of real data that are exact spans of tokens, and the reasons of others.

    python tools/tasks/qa_alignment.py --data DIR

Compares each answer with the text at the offsets of its target tokens in training. DIR contains
tydiqa_goldp/, xquad/, squad_es_v2/ and vocabs/.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from keras_bert_zoo import Tokenizer, WordPieceTokenizer
from keras_bert_zoo.data.squad import read_squad
from keras_bert_zoo.training.question_answering import span_labels

FILES = (
    ("tydiqa_goldp/tydiqa.goldp.en.train.json.gz", "bert-base-uncased"),
    ("xquad/xquad.en.json.gz", "bert-base-uncased"),
    ("xquad/xquad.zh.json.gz", "bert-base-chinese"),
    ("squad_es_v2/dev-v2.0-es_small.json.gz", "bert-base-multilingual-cased"),
)
CHUNK = 512


def tokenizer_of(folder: Path) -> Tokenizer:
    return WordPieceTokenizer(folder / "vocab.txt", lowercase="uncased" in folder.name)


def count(path: Path, tokenizer: Tokenizer, max_length: int, stride: int) -> Counter[str]:
    examples = read_squad(path, skip_misplaced=True)
    rows = [
        (examples.questions[i], examples.contexts[i], answer)
        for i, answers in enumerate(examples.answers)
        for answer in answers
    ]
    reasons: Counter[str] = Counter()
    for begin in range(0, len(rows), CHUNK):
        questions, contexts, answers = zip(*rows[begin : begin + CHUNK], strict=True)
        windows = {
            name: values.numpy()
            for name, values in tokenizer.windows(
                list(contexts), first=list(questions), max_length=max_length, stride=stride
            ).items()
        }
        spans = []
        for context, answer in zip(contexts, answers, strict=True):
            start = len(context[: answer.start].encode())
            spans.append((start, start + len(answer.text.encode())))
        labels, has_token = span_labels(windows, np.array(spans), len(contexts))
        targets: dict[int, tuple[int, int]] = {}
        for window in np.flatnonzero(labels.any(axis=1)):
            first, last = labels[window]
            span = (windows["starts"][window, first], windows["ends"][window, last])
            document = int(windows["document"][window])
            if targets.setdefault(document, span) != span:
                raise SystemExit(f"{path}: windows have different spans of {answers[document]}")
        for index, (answer, (start, end)) in enumerate(zip(answers, spans, strict=True)):
            reasons["answers"] += 1
            if index not in targets:
                reasons["not within a window" if has_token[index] else "no token"] += 1
                continue
            first, last = targets[index]
            if (first, last) == (start, end):
                reasons["exact"] += 1
                continue
            text = contexts[index].encode()[first:last].decode("utf-8", "replace")
            if text == answer.text.strip():
                reasons["exact except for white space around the answer"] += 1
            elif text == answer.text.strip("\u200b\u200c\u200d\u200e\u200f\ufeff\u00ad \t\n"):
                reasons["exact except for invisible characters around the answer"] += 1
            elif first < start or last > end:
                reasons["the answer begins or ends within a token"] += 1
            else:
                reasons["other"] += 1
                print(f"  {answer.text!r} became {text!r}")
    return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--stride", type=int, default=128)
    args = parser.parse_args()
    for name, vocabulary in FILES:
        tokenizer = tokenizer_of(args.data / "vocabs" / vocabulary)
        reasons = count(args.data / name, tokenizer, args.max_length, args.stride)
        total = reasons.pop("answers")
        print(f"{name}, {vocabulary}: {total:,} answers")
        for reason, number in reasons.most_common():
            print(f"  {number:6,} {number / total:7.2%} {reason}")


if __name__ == "__main__":
    main()
