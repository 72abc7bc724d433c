"""Compares an exported tagger with Python on 1,000 texts, hostile ones among them.

    python tools/tasks/ner_export_check.py --model runs/entities --data DIR

Exports the model and asks it in a process without this package, in batches of 64 and one by one.
Every answered entity is cut out of the caller's bytes by its offsets. DIR holds blns/ (the naughty
strings), wnut17/ and uner_zh_gsdsimp/.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BATCH = 64


def serve(model: str, texts_file: str, answers: str) -> None:
    """Runs in a process of its own, with TensorFlow and TensorFlow Text alone."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the ops)

    texts = [base64.b64decode(text) for text in json.loads(Path(texts_file).read_text("utf-8"))]
    ask = tf.saved_model.load(model).signatures["serving_default"]

    def entities(begin: int, size: int) -> list[list[list]]:
        found = {
            n: v.numpy() for n, v in ask(text=tf.constant(texts[begin : begin + size])).items()
        }
        rows = []
        for row, text in enumerate(texts[begin : begin + size]):
            rows.append([])
            for place, label in enumerate(found["label"][row]):
                start, end = int(found["start"][row][place]), int(found["end"][row][place])
                entity = found["entity"][row][place]
                if text[start:end] != entity:
                    raise SystemExit(f"wrong offsets {start}, {end} of {entity!r} in {text!r}")
                first, last = (
                    int(found[name][row][place]) for name in ("start_character", "end_character")
                )
                try:
                    if text.decode()[first:last].encode() != entity:
                        raise SystemExit(f"wrong characters of {entity!r} in {text!r}")
                except UnicodeDecodeError:
                    pass
                if label:
                    score = float(found["score"][row][place])
                    rows[-1].append([start, end, first, last, label.decode(), score])
        return rows

    batched = [row for begin in range(0, len(texts), BATCH) for row in entities(begin, BATCH)]
    alone = [entities(place, 1)[0] for place in range(len(texts))]
    if any(name.startswith("keras_bert_zoo") for name in sys.modules):
        raise SystemExit("the package was imported")
    Path(answers).write_text(json.dumps([batched, alone]), "utf-8")


def make_texts(data: Path, count: int) -> list[bytes]:
    """Sentences, naughty strings, both together, nothing, and texts of many windows."""
    from keras_bert_zoo.data.conll import read_conll

    naughty = json.loads((data / "blns" / "blns.json").read_text("utf-8"))
    odd = [text.encode("utf-8", "surrogatepass") for text in naughty]
    odd += [b"", b"\xff\xfe \xc3", b"x" * 3000, b"\xe4\xb8\xad" * 2000]
    english = read_conll(data / "wnut17" / "emerging.test.annotated").texts
    chinese = read_conll(data / "uner_zh_gsdsimp" / "zh_gsdsimp-ud-test.iob2.gz", tag=3).texts
    texts = []
    for place in range(count):
        plain = english[place % len(english)].encode()
        strange = odd[place % len(odd)]
        texts.append(
            [plain, strange, strange + plain + strange, plain * (place % 9),
             chinese[place % len(chinese)].encode()][place % 5]
        )  # fmt: skip
    return texts


def differences(left: list, right: list) -> tuple[int, float]:
    """Texts whose entities differ, and the largest difference of a score in the others."""
    other, largest = 0, 0.0
    for ours, theirs in zip(left, right, strict=True):
        if [entity[:5] for entity in ours] != [entity[:5] for entity in theirs]:
            other += 1
            continue
        for (*_, one), (*_, two) in zip(ours, theirs, strict=True):
            largest = max(largest, abs(one - two))
    return other, largest


def main() -> None:
    """Exports, asks and compares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    args = parser.parse_args()
    import keras_bert_zoo as kbz

    texts = make_texts(args.data, args.rows)
    task = kbz.TokenClassifier.load(args.model)
    found = task.answer_rows(texts)
    expected = [
        [
            [*(int(found[n][row][place])
               for n in ("start", "end", "start_character", "end_character")),
             label.decode(), float(found["score"][row][place])]
            for place, label in enumerate(found["label"][row])
            if label
        ]
        for row in range(len(texts))
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        export = task.export(Path(folder) / "model")
        asked, answers = Path(folder) / "texts.json", Path(folder) / "answers.json"
        asked.write_text(json.dumps([base64.b64encode(text).decode() for text in texts]), "utf-8")
        script = Path(folder) / "serve.py"  # elsewhere: this folder must not be on its path
        script.write_bytes(Path(__file__).read_bytes())
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        python = os.environ.get("KBZ_SERVING_PYTHON", sys.executable)
        command = [python, "-P", str(script), "--serve", str(export.path), str(asked), str(answers)]
        subprocess.run(command, check=True, env=environment)
        batched, alone = json.loads(answers.read_text("utf-8"))
    count = sum(map(len, expected))
    print(f"{len(texts):,} texts, {count:,} entities, every offset cuts its entity")
    for name, left, right in (
        ("the export and Python", batched, expected),
        (f"batches of {BATCH} and of one", batched, alone),
    ):
        other, largest = differences(left, right)
        print(f"{name}: {other} texts with other entities, scores within {largest:.1e}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()
