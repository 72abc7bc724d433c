"""Compares the encoder and a saved classifier with transformers (torch, float32) on real texts.

    python tools/check_encoder.py [--preset NAME_OR_DIR] [--texts FILE ...] [--rows 400]

Needs the extra `parity`. Texts are lines of the files, by default Banking77's. Some lines are
joined, so that lengths vary from 3 to 512 tokens. Prints the largest absolute differences over all
real tokens, and fails above 2e-5.
"""

import argparse
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import torch
import transformers

import keras_bert_zoo as kbz
from keras_bert_zoo.data.tables import read_table
from keras_bert_zoo.presets.resolve import find_preset

BAR = 2e-5
BATCH = 16
BANKING77 = pathlib.Path(__file__).resolve().parent / "data" / "banking77" / "test.csv.gz"


def read_texts(paths, rows):
    random = np.random.default_rng(0)
    if paths:
        lines = [line for p in paths for line in pathlib.Path(p).read_text("utf-8").splitlines()]
    else:
        lines = read_table(BANKING77, label=None).texts
    lines = [lines[i] for i in random.permutation(len(lines))]
    texts, used = [], 0
    while len(texts) < rows and used < len(lines):
        count = 1 if random.random() < 0.7 else int(random.integers(2, 50))
        texts.append(" ".join(lines[used : used + count]))
        used += count
    return texts


def batches(texts):
    return [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--texts", nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=400)
    options = parser.parse_args()
    directory = find_preset(options.preset)
    texts = read_texts(options.texts, options.rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    reference = transformers.BertModel.from_pretrained(directory).eval()
    ours = kbz.Tokenizer.from_preset(directory)
    encoders = {
        layout: kbz.Encoder.from_preset(directory, token_layout=layout, **more)
        for layout, more in (("padded", {}), ("packed", {"attention_groups": 4}))
    }
    worst = dict.fromkeys([*encoders, "saved classifier"], 0.0)
    lengths = []
    for batch in batches(texts):
        theirs = tokenizer(
            batch, padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        inputs = ours(batch, max_length=512)
        if not np.array_equal(theirs["input_ids"].numpy(), inputs["token_ids"].numpy()):
            sys.exit("the tokenizers differ")
        mask = inputs["padding_mask"].numpy()
        lengths.extend(mask.sum(axis=1))
        with torch.no_grad():
            expected = reference(**theirs)
        for layout, encoder in encoders.items():
            outputs = encoder(inputs)
            states = outputs["sequence_output"].numpy() - expected.last_hidden_state.numpy()
            pooled = outputs["pooled_output"].numpy() - expected.pooler_output.numpy()
            difference = max(np.abs(states * mask[..., np.newaxis]).max(), np.abs(pooled).max())
            worst[layout] = max(worst[layout], float(difference))
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "saved")
        labels = [f"label {i}" for i in range(7)]
        task = kbz.TextClassifier.from_preset(directory, labels=labels, max_length=512)
        task.save(saved)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(saved).eval()
        saved_tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
        if [model.config.id2label[i] for i in range(7)] != labels:
            sys.exit(f"the labels differ: {model.config.id2label}")
        for batch in batches(texts):
            theirs = saved_tokenizer(
                batch, padding=True, truncation=True, max_length=512, return_tensors="pt"
            )
            with torch.no_grad():
                expected = model(**theirs).logits.numpy()
            difference = np.abs(task.predict_logits(batch) - expected).max()
            worst["saved classifier"] = max(worst["saved classifier"], float(difference))
    mean = np.mean(lengths)
    print(f"{len(texts)} texts of {min(lengths)} to {max(lengths)} tokens, mean {mean:.0f}")
    for name, difference in worst.items():
        print(f"{name:18}{difference:.1e}")
    sys.exit(max(worst.values()) > BAR)


if __name__ == "__main__":
    main()
