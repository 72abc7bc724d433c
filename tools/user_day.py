"""A user's working day: tables of pandas, Keras workflows, models of other packages, exports.

    python tools/user_day.py --data ../shared/data --output runs/day
    python tools/user_day.py --data ../shared/data --output runs/day --only tables replicas

Each part runs a user's workflow on real data, by the command line or in Python, and checks the
result. A failed part is reported, the others still run, and the exit status is 1. Needs the extras
`test` and `zoo` (pandas, scikit-learn, transformers, torch) and the offline preset. Takes about 15
minutes on 2 cores.
"""

import argparse
import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PRESET = "minilm_l6_en_uncased"
INTENTS = ("card_arrival", "exchange_rate", "pin_blocked", "top_up_failed", "country_support")
PARTS: dict[str, Callable[["Day"], None]] = {}


def part(function: Callable[["Day"], None]) -> Callable[["Day"], None]:
    """Registers a part of the day under its name."""
    PARTS[function.__name__] = function
    return function


class Day:
    """Shared by all parts: folders, the command line, and a trained classifier.

    Args:
        data: folder of the data sets.
        output: folder for all outputs.
    """

    def __init__(self, data: Path, output: Path) -> None:
        self.data = data
        self.output = output
        self.checks = 0

    def expect(self, name: str, value: Any, expected: Any) -> None:
        """Compares a value with the expected one."""
        if value != expected:
            raise AssertionError(f"{name}: expected {expected!r}, received {value!r}")
        self.checks += 1

    def expect_true(self, name: str, condition: bool, value: Any = "") -> None:
        """Checks a condition."""
        if not condition:
            raise AssertionError(f"expected: {name}; received {value!r}")
        self.checks += 1

    def cli(self, *arguments: Any, status: int = 0, folder: Path | None = None) -> str:
        """Runs a command line; returns its standard output and error."""
        command = [sys.executable, "-m", "keras_bert_zoo", *map(str, arguments)]
        run = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env=environment(), check=False
        )
        if run.returncode != status:
            raise AssertionError(
                f"{shlex.join(command[3:])}: expected status {status}, received {run.returncode}: "
                f"{run.stderr[-2000:]}"
            )
        return run.stdout + run.stderr

    def frames(self) -> tuple[Any, Any]:
        """Questions of bank customers with five intents: a training frame and a test frame."""
        import pandas as pd

        frames = []
        for name in ("train.csv.gz", "test.csv"):
            frame = pd.read_csv(self.data / "banking77" / name)
            frames.append(frame[frame.category.isin(INTENTS)])
        return frames[0], frames[1]

    def classifier(self) -> Any:
        """A classifier of the intents, from `tables` or newly trained."""
        import keras_bert_zoo as kbz

        if not (self.output / "intents" / "config.json").exists():
            train, _ = self.frames()
            task = kbz.TextClassifier.from_preset(PRESET, labels=INTENTS)
            task.fit(train.text, train.category, epochs=1, probe_epochs=30, verbose=0)
            task.save(self.output / "intents")
        return kbz.TextClassifier.load(self.output / "intents")


def environment() -> dict[str, str]:
    """The environment of a child process that imports this checkout."""
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": root}


def text_of(path: Path) -> str:
    """A text file, gzipped or not."""
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf8") as file:
            return file.read()
    return path.read_text("utf8")


# === Tables ===


@part
def tables(day: Day) -> None:
    """CSV and TSV in every format of pandas; the commands that `train` prints."""
    train, test = day.frames()
    folder = day.output / "my tables"  # with a space
    folder.mkdir(parents=True, exist_ok=True)
    train.to_csv(folder / "train.csv")  # with the index: an unnamed first column
    train.to_csv(folder / "semicolon.csv", sep=";", index=False)
    test.to_csv(folder / "test.tsv", sep="\t", index=False)
    test.head(40).to_csv(folder / "no header.csv", index=False, header=False)

    model = day.output / "my model"
    shutil.rmtree(model, ignore_errors=True)
    common = ["--preset", PRESET, "--epochs", 1, "--probe-epochs", 30, "--max-length", 48]
    output = day.cli(
        "train", *common, "--train", folder / "train.csv", "--label", "category",
        "--dev-fraction", 0.1, "--output", model,
    )  # fmt: skip
    for line in output.splitlines():
        if not line.startswith("  keras-bert-zoo "):
            continue
        words = shlex.split(line)[1:]
        files = {"FILE": folder / "test.tsv"}
        words = [str(files.get(word, word)) for word in words]
        if words[0] == "export":
            words[words.index("--output") + 1] = str(day.output / "exports" / "intents")
        if words[0] == "predict":
            words += ["--output", str(day.output / "answers.jsonl")]
        lines = day.cli(*words).strip().splitlines()
        first = next(iter(lines), "no output")  # `predict` writes a file
        print(f"    {words[0]}: {first}")
    answers = (day.output / "answers.jsonl").read_text("utf8").splitlines()
    day.expect("answers", len(answers), len(test))
    right = sum(json.loads(a)["label"] == c for a, c in zip(answers, test.category, strict=True))
    day.expect_true("accuracy above 0.9", right / len(test) > 0.9, right / len(test))

    output = day.cli("evaluate", "--model", model, "--data", folder / "semicolon.csv", "--json")
    day.expect_true("a file with semicolons is read", "accuracy" in output)
    day.cli("evaluate", "--model", model, "--data", folder / "no header.csv",
            "--columns", "text,category")  # fmt: skip
    output = day.cli("evaluate", "--model", model, "--data", folder / "no header.csv", status=2)
    day.expect_true("a file without a header is an error", output.count("\n") == 1, output)
    shutil.rmtree(day.output / "intents", ignore_errors=True)
    shutil.copytree(model, day.output / "intents")


# === Keras workflows ===


@part
def python_inputs(day: Day) -> None:
    """Frames, series, arrays, datasets, generators and PyDataset give the same predictions."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_bert_zoo as kbz

    train, test = day.frames()
    train = train.sample(frac=1, random_state=0)  # with a shuffled index
    task = kbz.TextClassifier.from_preset(PRESET, labels=INTENTS, max_length=48)
    task.fit(train.text, train.category, epochs=1, probe_epochs=30, validation_split=0.1, verbose=0)
    texts = test.text.tolist()
    expected = task.predict(texts)["label"].tolist()
    accuracy = float(np.mean(np.array(expected) == test.category.to_numpy()))
    day.expect_true("accuracy above 0.9", accuracy > 0.9, accuracy)
    for name, x in {
        "Series": test.text,
        "array of objects": test.text.to_numpy(),
        "array of str": np.array(texts),
        "dataset": tf.data.Dataset.from_tensor_slices(texts).batch(7),
    }.items():
        day.expect(name, task.predict(x)["label"].tolist(), expected)
    for name, x in {"DataFrame": test, "dict": {"text": texts}, "set": set(texts)}.items():
        try:
            task.predict(x)
        except kbz.errors.DataError as error:
            day.expect_true(f"{name} is named", name.lower() in str(error).lower(), str(error))
        else:
            raise AssertionError(f"expected DataError for {name}")

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[list[str], list[str]]:
            rows = train.iloc[index * 8 : index * 8 + 8]
            return rows.text.tolist(), rows.category.tolist()

    def endless() -> Any:
        while True:
            for index in range(4):
                yield Batches()[index]

    history = task.fit(Batches(), epochs=2, verbose=0)
    day.expect("epochs of a PyDataset", len(history.epoch), 2)
    history = task.fit(endless(), steps_per_epoch=4, epochs=2, verbose=0)
    day.expect("epochs of a generator", len(history.epoch), 2)
    stars = kbz.TextClassifier.from_preset(PRESET, labels=["1", "2", "3"], max_length=16)
    ids = [stars.label_map.id_of(label) for label in (1, np.int64(2), 3.0, "3")]
    day.expect("names that are numbers", ids, [0, 1, 2, 2])


@part
def callbacks(day: Day) -> None:
    """Every callback of Keras, in one `fit` each."""
    import inspect

    import keras

    import keras_bert_zoo as kbz

    train, test = day.frames()
    train, test = train.iloc[::12], test.iloc[::12]
    folder = day.output / "callbacks"
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "BackupAndRestore": ((str(folder / "backup"),), {}),
        "CSVLogger": ((str(folder / "log.csv"),), {}),
        "LambdaCallback": ((), {"on_epoch_end": lambda epoch, logs: None}),
        "LearningRateScheduler": ((lambda epoch, rate: rate * 0.5,), {}),
        "ModelCheckpoint": ((str(folder / "best.weights.h5"),), {"save_weights_only": True}),
        "ReduceLROnPlateau": ((), {"monitor": "val_loss", "patience": 0}),
        "TensorBoard": ((str(folder / "board"),), {"write_graph": False}),
        "RemoteMonitor": ((), {"root": "http://127.0.0.1:9"}),  # no server: it warns
    }
    skipped = {"Callback", "CallbackList", "RemoteMonitor", "OrbaxCheckpoint"}
    task = kbz.TextClassifier.from_preset(PRESET, labels=INTENTS, max_length=32)
    names = sorted(n for n, c in vars(keras.callbacks).items() if inspect.isclass(c))
    ran = []
    for name in names:
        if name in skipped:
            continue
        positional, keywords = options.get(name, ((), {}))
        callback = getattr(keras.callbacks, name)(*positional, **keywords)
        average = name == "SwapEMAWeights"  # needs an optimizer with averages
        task.compile(keras.optimizers.Adam(2e-5, use_ema=average))
        task.fit(train.text, train.category, epochs=1, callbacks=[callback], verbose=0,
                 validation_data=(test.text, test.category))  # fmt: skip
        ran.append(name)
    print(f"    ran: {', '.join(ran)}; not run: {', '.join(sorted(skipped & set(names)))}")
    day.expect_true("ten callbacks or more", len(ran) >= 10, ran)
    # A checkpoint of the whole model is a directory for `load`.
    callback = keras.callbacks.ModelCheckpoint(str(folder / "whole.keras"))
    task.fit(train.text, train.category, epochs=1, callbacks=[callback], verbose=0)
    again = kbz.TextClassifier.load(folder / "whole.keras").predict(test.text)["label"].tolist()
    day.expect("answers of the checkpoint", again, task.predict(test.text)["label"].tolist())


_REPLICAS = """
import sys
import numpy as np, tensorflow as tf
count = int(sys.argv[1])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count)
import keras
import keras_bert_zoo as kbz
names = [device.name for device in tf.config.list_logical_devices("CPU")]
strategy = tf.distribute.MirroredStrategy(names) if count > 1 else tf.distribute.get_strategy()
texts = [f"question {index} about my card" for index in range(17)]
labels = [["card", "rate"][index % 2] for index in range(17)]
keras.utils.set_random_seed(0)
with strategy.scope():
    task = kbz.TextClassifier.from_preset(sys.argv[2], labels=["card", "rate"], max_length=16)
for layer in task._flatten_layers():
    if isinstance(layer, keras.layers.Dropout) or hasattr(layer, "rate"):
        layer.rate = 0.0
before = task.evaluate(texts, labels, batch_size=5, return_dict=True, verbose=0)
task.fit(texts, labels, batch_size=5, epochs=1, verbose=0,
         validation_data=(texts[:3], labels[:3]))
after = task.evaluate(texts, labels, batch_size=5, return_dict=True, verbose=0)
print(before["loss"], before["accuracy"], after["loss"])
"""


@part
def replicas(day: Day) -> None:
    """Uneven batches (17 rows by 5) give equal losses on 1, 2 and 3 replicas."""
    results = []
    for count in (1, 2, 3):
        command = [sys.executable, "-c", _REPLICAS, str(count), PRESET]
        run = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        results.append([float(value) for value in run.stdout.split()[-3:]])
        print(f"    {count} replicas: loss, accuracy, loss after an epoch: {results[-1]}")
    for values in results[1:]:
        for value, expected in zip(values, results[0], strict=True):
            close = abs(value - expected) < 5e-3
            day.expect_true("as on one replica", close, (value, expected))


# === Models of other packages ===


@part
def inference_model(day: Day) -> None:
    """A model of pairs saved by transformers, with labels and without our side file."""
    import numpy as np
    import torch
    import transformers

    import keras_bert_zoo as kbz

    folder = day.output / "nli"
    torch.manual_seed(0)
    vocabulary = day.data / "vocabs" / "bert-base-uncased" / "vocab.txt"
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        num_labels=3, id2label={0: "entailment", 1: "neutral", 2: "contradiction"},
        initializer_range=0.3,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(str(vocabulary))
    tokenizer.save_pretrained(folder)
    lines = text_of(day.data / "pawsx" / "dev-en.tsv.gz").splitlines()[:200]
    first, second, _ = zip(*(line.split("\t") for line in lines), strict=True)
    with torch.no_grad():
        batch = tokenizer(list(first), list(second), padding=True, return_tensors="pt")
        expected = torch.softmax(model(**batch).logits, -1).numpy()
    task = kbz.TextClassifier.load(folder)
    answers = task.predict((list(first), list(second)))
    difference = float(np.abs(answers["scores"] - expected).max())
    print(f"    200 pairs, largest difference of probabilities {difference:.1e}")
    day.expect_true("scores as transformers", difference < 1e-5, difference)
    table = day.output / "pairs.csv"
    import pandas as pd

    pd.DataFrame({"premise": first, "hypothesis": second}).to_csv(table, index=False)
    day.cli("predict", "--model", folder, "--input", table, "--text", "premise",
            "--text-pair", "hypothesis", "--output", day.output / "nli.jsonl")  # fmt: skip
    rows = (day.output / "nli.jsonl").read_text("utf8").splitlines()
    day.expect("labels by the command line", [json.loads(r)["label"] for r in rows],
               answers["label"].tolist())  # fmt: skip
    shutil.rmtree(day.output / "exports" / "nli", ignore_errors=True)
    output = day.cli("export", "--model", folder, "--output", day.output / "exports/nli", "--pairs")
    day.expect_true("the model is exported", "exported" in output, output)
    import tensorflow as tf

    served = tf.saved_model.load(str(day.output / "exports/nli/1")).signatures["serving_default"]
    scores = served(text=tf.constant(first), text_pair=tf.constant(second))["scores"].numpy()
    day.expect_true("the export, too", float(np.abs(scores - expected).max()) < 1e-5)


# === Entities and questions ===


@part
def annotations(day: Day) -> None:
    """Entities in the formats of other tools: columns of UNER, doccano, words with tags."""
    folder = day.output / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        ("Ada Lovelace met Charles Babbage in London.", [(0, 13, "PER"), (17, 32, "PER")]),
        (
            "They moved from Paris to Rome 👩‍🚀 with Marie Curie.",
            [(15, 21, "LOC"), (25, 29, "LOC")],
        ),
        ("Nothing is named here.", []),
    ] * 8
    doccano = [
        {"id": index, "text": text, "label": [[start, end, name] for start, end, name in spans]}
        for index, (text, spans) in enumerate(rows)
    ]
    modern = [
        {
            "text": text,
            "entities": [
                {"id": n, "label": name, "start_offset": start, "end_offset": end}
                for n, (start, end, name) in enumerate(spans)
            ],
        }
        for text, spans in rows
    ]
    words = [{"tokens": "Ada met Bob".split(), "ner_tags": ["B-PER", "O", "B-PER"]}] * 8
    for name, records in (("doccano", doccano), ("offsets", modern), ("words", words)):
        lines = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
        (folder / f"{name}.jsonl").write_text(lines + "\n", "utf8")
    uner = text_of(day.data / "uner_zh_gsdsimp" / "zh_gsdsimp-ud-dev.iob2.gz")
    (folder / "uner.conll").write_text("\n\n".join(uner.split("\n\n")[:60]) + "\n", "utf8")
    for name in ("doccano.jsonl", "offsets.jsonl", "words.jsonl", "uner.conll"):
        day.cli(
            "train", "--task", "token-classification", "--preset", PRESET, "--train", folder / name,
            "--epochs", 1, "--max-length", 32, "--output", folder / "model",
        )  # fmt: skip
        labels = json.loads((folder / "model" / "config.json").read_text())["id2label"].values()
        print(f"    {name}: {', '.join(sorted(labels))}")
        names = {label.partition("-")[2] for label in labels if label != "O"}
        day.expect_true("types", names in ({"PER", "LOC"}, {"PER"}, {"PER", "LOC", "ORG"}), names)


@part
def questions(day: Day) -> None:
    """SQuAD 2.0 in Spanish; impossible questions have empty answers or the offset -1."""
    from keras_bert_zoo.data.squad import read_squad

    document = json.loads(text_of(day.data / "squad_es_v2" / "dev-v2.0-es_small.json.gz"))
    document["data"] = document["data"][:2]
    changed = 0
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                if question.get("is_impossible"):
                    question["answers"] = [{"text": "", "answer_start": -1}]
                    changed += 1
    path = day.output / "questions.json"
    path.write_text(json.dumps(document, ensure_ascii=False), "utf8")
    read = read_squad(path, skip_misplaced=True)
    examples = read[0] if isinstance(read, tuple) else read
    print(f"    {len(examples):,} questions, {changed:,} of them impossible with an answer at -1")
    day.expect_true("questions were read", len(examples) > changed > 0)


# === Exports and processes ===


@part
def hostile_shapes(day: Day) -> None:
    """Requests that must not crash a server: scalars, two columns, wrong types."""
    path = day.output / "exports" / "intents"
    if not path.exists():
        day.classifier().export(path)
    newest = max(int(folder.name) for folder in path.iterdir() if folder.name.isdigit())
    run = subprocess.run(
        [sys.executable, "-P", "-c", _HOSTILE, str(path / str(newest))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print("    " + "\n    ".join(run.stdout.strip().splitlines()))
    day.expect("exit status", run.returncode, 0)


_HOSTILE = """
import sys
import tensorflow as tf, tensorflow_text
loaded = tf.saved_model.load(sys.argv[1])
requests = {
    "scalar": ("serving_default", dict(text=tf.constant("hello"))),
    "two columns": ("serving_default", dict(text=tf.constant([["a", "b"], ["c", "d"]]))),
    "scalar example": ("examples", dict(examples=tf.constant("x"))),
    "broken example": ("examples", dict(examples=tf.constant(["\\xff not an example"]))),
    "ids of other shapes": ("tokens", dict(token_ids=tf.zeros([2, 5], tf.int32),
        segment_ids=tf.zeros([2, 4], tf.int32), padding_mask=tf.ones([1, 5], tf.int32))),
    "ids out of range": ("tokens", dict(token_ids=tf.fill([1, 5], 10**9),
        segment_ids=tf.zeros([1, 5], tf.int32), padding_mask=tf.ones([1, 5], tf.int32))),
}
for name, (signature, inputs) in requests.items():
    try:
        loaded.signatures[signature](**inputs)
    except tf.errors.InvalidArgumentError as error:
        print(name, "rejected")
    else:
        sys.exit(f"{name}: expected InvalidArgumentError")
serve = loaded.signatures["serving_default"]
print("10,000 texts:", serve(text=tf.constant(["my card"] * 10000))["score"].shape)
# Not getrusage: its peak includes the parent process.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak memory, MiB:", int(peak.split()[1]) // 1024)
"""


@part
def interrupted(day: Day) -> None:
    """SIGTERM during training saves the weights and exits with status 143."""
    train, _ = day.frames()
    path = day.output / "train.csv"
    train.to_csv(path, index=False)
    output = day.output / "stopped"
    shutil.rmtree(output, ignore_errors=True)
    command = [
        sys.executable, "-m", "keras_bert_zoo", "train", "--preset", PRESET, "--train", str(path),
        "--label", "category", "--epochs", "50", "--output", str(output),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    for line in process.stdout or ():
        if line.startswith("Epoch 2"):
            process.terminate()
            break
    _, errors = process.communicate(timeout=300)
    print(f"    status {process.returncode}: {errors.strip().splitlines()[-1]}")
    day.expect("status", process.returncode, 143)
    day.expect_true("the model is saved", (output / "model.safetensors").exists())


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--output", type=Path, required=True, help="folder for all outputs")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    args = parser.parse_args()
    day = Day(args.data.resolve(), args.output.resolve())
    day.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.only:
        print(f"== {name}: {(PARTS[name].__doc__ or '').strip()}", flush=True)
        begin = time.monotonic()
        try:
            PARTS[name](day)
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"   {time.monotonic() - begin:.0f} s", flush=True)
    print(f"{day.checks} checks passed; failed parts: {', '.join(failed) or 'none'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
