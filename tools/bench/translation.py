"""Speed of translation: the export against `generate` of transformers, on one saved model.

    python tools/bench/translation.py MODEL --texts FILE [--batch-size 32] [--num-beams 4]

MODEL is a directory written by `keras-bert-zoo train --task translation`. FILE has one text per
line, before the first tab. Needs the extra `parity`. Both compute float32, tokenization included,
on batches in the order of the file. They alternate, so that other load on the machine affects both
equally. The results are the ratio of their times and the number of equal translations.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import tensorflow as tf
import torch
import transformers
from tables import Table, add_json_option, report

import keras_bert_zoo as kbz


def torch_engine(task, directory):
    """transformers on the saved model."""
    model = transformers.EncoderDecoderModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    options = {
        "num_beams": task.num_beams,
        "length_penalty": task.length_penalty,
        "max_new_tokens": task.max_target_length,
    }

    def translate(texts):
        inputs = tokenizer(
            texts, padding=True, truncation=True, max_length=task.max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            ids = model.generate(
                inputs["input_ids"], attention_mask=inputs["attention_mask"], **options
            )
        answers = task.answers({"ids": tf.constant(ids[:, 1:].numpy(), tf.int32), "score": 0})
        return [text.decode() for text in answers["translation"].numpy()]

    return translate


def export_engine(task, folder):
    """The SavedModel."""
    export = task.export(Path(folder) / "export")
    serve = tf.saved_model.load(str(export.path)).signatures["serving_default"]
    return lambda texts: [
        text.decode() for text in serve(text=tf.constant(texts))["translation"].numpy()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-beams", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    lines = args.texts.read_text(encoding="utf-8").splitlines()
    texts = [line.split("\t")[0] for line in lines]
    texts = texts[:: max(1, len(texts) // args.count)][: args.count]
    batches = [texts[i : i + args.batch_size] for i in range(0, len(texts), args.batch_size)]
    task = kbz.Translator.load(args.model)
    task.num_beams = args.num_beams
    with tempfile.TemporaryDirectory() as folder:
        engines = {
            "transformers, torch": torch_engine(task, args.model),
            "export, tf.saved_model": export_engine(task, folder),
        }
        answers = {
            name: [text for batch in batches for text in engine(batch)]
            for name, engine in engines.items()
        }
        seconds = dict.fromkeys(engines, 0.0)
        for _ in range(args.rounds):
            for batch in batches:
                for name, engine in engines.items():
                    begin = time.perf_counter()
                    engine(batch)
                    seconds[name] += time.perf_counter() - begin
    first, second = answers.values()
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(f"{len(texts)} texts, batches of {args.batch_size}, {args.num_beams} beams, float32")
    print(f"{same} of {len(texts)} translations are the same")
    slowest = max(seconds.values())
    rows = {
        name: [args.rounds * len(texts) / value, slowest / value] for name, value in seconds.items()
    }
    columns = {"texts/s": ".1f", "ratio": ".2f"}
    report([Table("translation", "engine", columns, rows, "texts/s", ["texts/s"])], args.json)


if __name__ == "__main__":
    main()
