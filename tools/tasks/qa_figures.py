"""Trains question answerers on real data and prints the scores that the README states.

    python tools/tasks/qa_figures.py tydiqa --data DIR [--preset NAME]
    python tools/tasks/qa_figures.py squad-es --data DIR

DIR holds tydiqa_goldp/, xquad/ and squad_es_v2/, files in SQuAD's form. The answers of TyDi QA
GoldP's development file are withheld in the copy that XTREME distributes (all are ""), so a part of
the training file is held out in its place, whole passages at a time; XQuAD's English questions are
scored, too.
"""

import argparse
import time
from pathlib import Path

import keras

from keras_bert_zoo.data.squad import read_squad
from keras_bert_zoo.tasks.question_answerer import QuestionAnswerer
from keras_bert_zoo.training.metrics import format_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("tydiqa", "squad-es"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="minilm_l6_en_uncased")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--rows", type=int, help="questions to train on; default: all")
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()

    keras.utils.set_random_seed(args.seed)
    tests = {}
    if args.what == "tydiqa":
        examples = read_squad(args.data / "tydiqa_goldp" / "tydiqa.goldp.en.train.json.gz")
        train, dev = examples.split(0.12, args.seed)
        tests["XQuAD, English, none of it trained on"] = read_squad(
            args.data / "xquad" / "xquad.en.json.gz"
        )
    else:
        name = args.data / "squad_es_v2" / "dev-v2.0-es_small.json.gz"
        rest, test = read_squad(name, skip_misplaced=True).split(0.2, args.seed)
        train, dev = rest.split(0.1, args.seed)  # the threshold is tuned on dev
        tests["held-out fifth of the passages"] = test
    train = train[: args.rows]
    print(f"{len(train):,} questions to train on, {len(dev):,} held out", flush=True)
    task = QuestionAnswerer.from_preset(
        args.preset, new_head=True, max_length=args.max_length, dtype=args.dtype
    )
    begin = time.monotonic()
    task.fit(
        train,
        validation_data=dev,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
        verbose=2,
    )
    print(f"trained in {time.monotonic() - begin:.0f} s", flush=True)
    if args.output:
        task.save(args.output)
    for what, test in tests.items():
        if test.has_unanswerable:
            print(f"\n{what}, threshold 0\n{format_report(task.report(test))}", flush=True)
    if dev.has_unanswerable:
        print(f"\nthreshold tuned on the held-out questions: {task.tune_threshold(dev):.4f}")
        if args.output:
            task.save(args.output)
    for what, test in {"held-out questions": dev, **tests}.items():
        print(f"\n{what}\n{format_report(task.report(test))}", flush=True)


if __name__ == "__main__":
    main()
