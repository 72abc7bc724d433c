"""Writes tests/assets/ner/seqeval.json: metrics of seqeval for random tags.

seqeval 1.2.2 needs an old setuptools, and therefore a separate environment:

    python -m venv /tmp/seqeval
    /tmp/seqeval/bin/pip install "setuptools<70" wheel setuptools_scm numpy scikit-learn
    /tmp/seqeval/bin/pip install --no-build-isolation --no-deps seqeval==1.2.2
    /tmp/seqeval/bin/python tools/tasks/ner_goldens.py
"""

import json
import random
import warnings
from pathlib import Path

from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities

OUTPUT = Path(__file__).resolve().parents[2] / "tests" / "assets" / "ner" / "seqeval.json"
PREFIXES = {"IOB2": "BI", "IOBES": "BIES"}
TYPES = ("PER", "LOC", "ORG")


def sentence(scheme: str, length: int) -> list[str]:
    """Random tags, which may violate the scheme."""
    tags = [f"{prefix}-{kind}" for prefix in PREFIXES[scheme] for kind in TYPES]
    return [random.choice(tags) if random.random() < 0.6 else "O" for _ in range(length)]


def changed(tags: list[str], scheme: str) -> list[str]:
    """Replaces some of the tags, as predictions."""
    return [tag if random.random() < 0.8 else sentence(scheme, 1)[0] for tag in tags]


def main() -> None:
    """Writes the file."""
    warnings.simplefilter("ignore")  # labels that are never predicted
    random.seed(0)
    cases = []
    for scheme in PREFIXES:
        for _ in range(6):
            true = [sentence(scheme, random.randrange(1, 9)) for _ in range(8)]
            predicted = [changed(tags, scheme) for tags in true]
            report = classification_report(true, predicted, output_dict=True, zero_division=0)
            cases.append(
                {
                    "scheme": scheme,
                    "true": [" ".join(tags) for tags in true],
                    "predicted": [" ".join(tags) for tags in predicted],
                    "entities": [
                        [[kind, first, last] for kind, first, last in get_entities(tags)]
                        for tags in true
                    ],
                    "report": {
                        name: [float(row[key]) for key in ("precision", "recall", "f1-score")]
                        + [int(row["support"])]
                        for name, row in report.items()
                    },
                }
            )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    content = {"tool": "tools/tasks/ner_goldens.py, seqeval 1.2.2", "cases": cases}
    OUTPUT.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
