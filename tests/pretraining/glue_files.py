"""Writes small files with the names, columns and quirks of GLUE's zip archives."""

from pathlib import Path

_MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse"
_MNLI += " sentence2_parse sentence1 sentence2"
_STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"
_MRPC = ("#1 ID", "#2 ID", "#1 String", "#2 String")
WORDS = ("rose", "sky", "leaf", "fire", "sea", "grass")


def sentence(number: int) -> str:
    """A text with one of the words; some have a quote that nothing closes."""
    mark = '"' if number % 3 == 0 else ""
    return f"{mark}the {WORDS[number % len(WORDS)]} is here"


def write_glue(directory: Path, *, rows: int = 12, mrpc: str = "tsv") -> Path:
    """Writes all nine tasks.

    Args:
        directory: Path.
        rows: labelled examples of each file.
        mrpc: "tsv": GLUE's files; "ids": the corpus with dev_ids.tsv; "corpus": without it.
    """

    def write(name, header, make, count=rows):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [] if header is None else ["\t".join(header)]
        lines += ["\t".join(map(str, make(index))) for index in range(count)]
        path.write_bytes(("\n".join(lines) + "\n").encode())

    def pair(index):
        return sentence(index), sentence(index + index % 2)

    def entailment(index):
        return ("entailment", "not_entailment")[index % 2]

    def mrpc_ids(index):
        return 1000 + index, 2000 + index

    labels = ("neutral", "contradiction", "entailment")
    parts = ("train", "dev")
    for part in parts:
        write(f"CoLA/{part}.tsv", None, lambda i: ("gj04", i % 2, "*" * (i % 2), sentence(i)))
        write(f"SST-2/{part}.tsv", ("sentence", "label"), lambda i: (sentence(i) + " ", i % 2))
        write(
            f"STS-B/{part}.tsv",
            (*_STSB.split(), "score"),
            lambda i: (i, "main", "x", 2012, i, "none", "none", *pair(i), f"{i % 6:.3f}"),
        )
        write(
            f"QQP/{part}.tsv",
            ("id", "qid1", "qid2", "question1", "question2", "is_duplicate"),
            lambda i: (i, 2 * i, 2 * i + 1, *pair(i), i % 2),
        )
        write(
            f"QNLI/{part}.tsv",
            ("index", "question", "sentence", "label"),
            lambda i: (i, *pair(i), entailment(i)),
        )
        for name, label in (("RTE", entailment), ("WNLI", lambda i: i % 2)):
            write(
                f"{name}/{part}.tsv",
                ("index", "sentence1", "sentence2", "label"),
                lambda i, label=label: (i, *pair(i), label(i)),
            )
    parses = ("main",) + ("( x )",) * 4
    write(
        "MNLI/train.tsv",
        (*_MNLI.split(), "label1", "gold_label"),
        lambda i: (i, i, f"{i}n", *parses, *pair(i), labels[i % 3], labels[i % 3]),
    )
    five = tuple(f"label{number}" for number in range(1, 6))
    for part in ("matched", "mismatched"):
        write(
            f"MNLI/dev_{part}.tsv",
            (*_MNLI.split(), *five, "gold_label"),
            lambda i: (i, i, f"{i}n", *parses, *pair(i), *("neutral",) * 5, labels[i % 3]),
        )
        header = _MNLI.split()
        write(f"MNLI/test_{part}.tsv", header, lambda i: (i, i, f"{i}n", *parses, *pair(i)), 3)
    diagnostic = ("index", "sentence1", "sentence2")
    write("diagnostic/diagnostic.tsv", diagnostic, lambda i: (i, *pair(i)), 3)
    for name in ("CoLA", "SST-2"):
        write(f"{name}/test.tsv", ("index", "sentence"), lambda i: (i, sentence(i)), 3)
    for name, columns in (
        ("QNLI", ("index", "question", "sentence")),
        ("RTE", ("index", "sentence1", "sentence2")),
        ("WNLI", ("index", "sentence1", "sentence2")),
        ("QQP", ("id", "question1", "question2")),
    ):
        write(f"{name}/test.tsv", columns, lambda i: (i, *pair(i)), 3)
    write(
        "STS-B/test.tsv",
        _STSB.split(),
        lambda i: (i, "main", "x", 2012, i, "none", "none", *pair(i)),
        3,
    )
    header = ("\ufeffQuality", *_MRPC)

    def quality(i):
        return i % 2, *mrpc_ids(i), *pair(i)

    if mrpc == "tsv":
        for part in parts:
            write(f"MRPC/{part}.tsv", header, quality)
        write("MRPC/test.tsv", ("index", *_MRPC), lambda i: (i, *mrpc_ids(i), *pair(i)), 3)
    else:
        write("MRPC/msr_paraphrase_train.txt", header, quality)
        write("MRPC/msr_paraphrase_test.txt", header, quality, 4)
        if mrpc == "ids":
            write("MRPC/dev_ids.tsv", None, lambda i: mrpc_ids(3 * i), 4)
    return directory
