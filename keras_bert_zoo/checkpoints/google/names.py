"""Tables of the names in Google's TF1 checkpoints and of Hugging Face's tensors.

Each row maps a scope of google-research/bert, /albert or /electra to a module of Hugging Face.
`{i}` and `{j}` are numbers. The kind of a row gives the variables of the scope and their tensors.
The tables are read in both directions. They follow load_tf_weights_in_bert, _albert and _electra of
transformers 4.44.2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Kind of a scope -> (variable in it, tensor of the module, whether they are transposes).
_KINDS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "dense": (("/kernel", ".weight", True), ("/bias", ".bias", False)),
    "norm": (("/gamma", ".weight", False), ("/beta", ".bias", False)),
    "table": (("", ".weight", False),),
    # Google's classifiers store their matrix as (labels, hidden), like PyTorch.
    "output": (("output_weights", ".weight", False), ("output_bias", ".bias", False)),
    "output_bias": (("output_bias", ".bias", False),),
}


class Row(NamedTuple):
    """One row of a table.

    Args:
        google: str. Scope. For the output kinds, the part before `output_`.
        huggingface: str. Module.
        kind: str. See `_KINDS`.
    """

    google: str
    huggingface: str
    kind: str


def _embeddings(google: str, huggingface: str) -> tuple[Row, ...]:
    return (
        Row(f"{google}/word_embeddings", f"{huggingface}.word_embeddings", "table"),
        Row(f"{google}/position_embeddings", f"{huggingface}.position_embeddings", "table"),
        Row(f"{google}/token_type_embeddings", f"{huggingface}.token_type_embeddings", "table"),
        Row(f"{google}/LayerNorm", f"{huggingface}.LayerNorm", "norm"),
    )


def _layers(google: str, huggingface: str) -> tuple[Row, ...]:
    google += "/layer_{i}"
    huggingface += ".layer.{i}"
    return (
        Row(f"{google}/attention/self/query", f"{huggingface}.attention.self.query", "dense"),
        Row(f"{google}/attention/self/key", f"{huggingface}.attention.self.key", "dense"),
        Row(f"{google}/attention/self/value", f"{huggingface}.attention.self.value", "dense"),
        Row(f"{google}/attention/output/dense", f"{huggingface}.attention.output.dense", "dense"),
        Row(
            f"{google}/attention/output/LayerNorm",
            f"{huggingface}.attention.output.LayerNorm",
            "norm",
        ),
        Row(f"{google}/intermediate/dense", f"{huggingface}.intermediate.dense", "dense"),
        Row(f"{google}/output/dense", f"{huggingface}.output.dense", "dense"),
        Row(f"{google}/output/LayerNorm", f"{huggingface}.output.LayerNorm", "norm"),
    )


_ALBERT_BLOCK = "bert/encoder/transformer/group_{i}/inner_group_{j}"
_ALBERT_LAYER = "albert.encoder.albert_layer_groups.{i}.albert_layers.{j}"

# The encoders. All of their variables are required.
ENCODERS: dict[str, tuple[Row, ...]] = {
    "bert": (
        *_embeddings("bert/embeddings", "bert.embeddings"),
        *_layers("bert/encoder", "bert.encoder"),
    ),
    "albert": (
        *_embeddings("bert/embeddings", "albert.embeddings"),
        Row(
            "bert/encoder/embedding_hidden_mapping_in",
            "albert.encoder.embedding_hidden_mapping_in",
            "dense",
        ),
        Row(f"{_ALBERT_BLOCK}/attention_1/self/query", f"{_ALBERT_LAYER}.attention.query", "dense"),
        Row(f"{_ALBERT_BLOCK}/attention_1/self/key", f"{_ALBERT_LAYER}.attention.key", "dense"),
        Row(f"{_ALBERT_BLOCK}/attention_1/self/value", f"{_ALBERT_LAYER}.attention.value", "dense"),
        Row(
            f"{_ALBERT_BLOCK}/attention_1/output/dense", f"{_ALBERT_LAYER}.attention.dense", "dense"
        ),
        Row(f"{_ALBERT_BLOCK}/LayerNorm", f"{_ALBERT_LAYER}.attention.LayerNorm", "norm"),
        Row(f"{_ALBERT_BLOCK}/ffn_1/intermediate/dense", f"{_ALBERT_LAYER}.ffn", "dense"),
        Row(
            f"{_ALBERT_BLOCK}/ffn_1/intermediate/output/dense",
            f"{_ALBERT_LAYER}.ffn_output",
            "dense",
        ),
        Row(f"{_ALBERT_BLOCK}/LayerNorm_1", f"{_ALBERT_LAYER}.full_layer_layer_norm", "norm"),
    ),
    "electra": (
        *_embeddings("electra/embeddings", "electra.embeddings"),
        Row("electra/embeddings_project", "electra.embeddings_project", "dense"),
        *_layers("electra/encoder", "electra.encoder"),
    ),
}

# Optional parts of a model besides the encoder. A part is complete or missing.
HEADS: dict[str, dict[str, tuple[Row, ...]]] = {
    "bert": {
        "pooler": (Row("bert/pooler/dense", "bert.pooler.dense", "dense"),),
        "masked_lm": (
            Row("cls/predictions/transform/dense", "cls.predictions.transform.dense", "dense"),
            Row(
                "cls/predictions/transform/LayerNorm", "cls.predictions.transform.LayerNorm", "norm"
            ),
            Row("cls/predictions/", "cls.predictions", "output_bias"),
        ),
        "next_sentence": (Row("cls/seq_relationship/", "cls.seq_relationship", "output"),),
        "classification": (Row("", "classifier", "output"),),
        "question_answering": (Row("cls/squad/", "qa_outputs", "output"),),
    },
    "albert": {
        "pooler": (Row("bert/pooler/dense", "albert.pooler", "dense"),),
        "masked_lm": (
            Row("cls/predictions/transform/dense", "predictions.dense", "dense"),
            Row("cls/predictions/transform/LayerNorm", "predictions.LayerNorm", "norm"),
            Row("cls/predictions/", "predictions", "output_bias"),
        ),
        "sentence_order": (Row("cls/seq_relationship/", "sop_classifier.classifier", "output"),),
        "classification": (Row("", "classifier", "output"),),
    },
    "electra": {
        "replaced_tokens": (
            Row("discriminator_predictions/dense", "discriminator_predictions.dense", "dense"),
            Row(
                "discriminator_predictions/dense_1",
                "discriminator_predictions.dense_prediction",
                "dense",
            ),
        ),
        # The generator of a pretraining run. It shares the discriminator's embeddings.
        "generator": (
            Row("generator/embeddings_project", "generator.embeddings_project", "dense"),
            *_layers("generator/encoder", "generator.encoder"),
        ),
        "generator_predictions": (
            Row("generator_predictions/dense", "generator_predictions.dense", "dense"),
            Row("generator_predictions/LayerNorm", "generator_predictions.LayerNorm", "norm"),
            Row("generator_predictions/", "generator_lm_head", "output_bias"),
        ),
    },
}

# Dense layers that exist only if the two widths differ.
OPTIONAL_ROWS = (
    "albert.encoder.embedding_hidden_mapping_in",
    "electra.embeddings_project",
    "generator.embeddings_project",
)

# Slots and counters of optimizers, which are not weights. LAMB's slots have Adam's names. The
# temperature belongs to ELECTRA's sampling.
NOT_WEIGHTS = re.compile(
    r"(.*/)?(adam_[mv]|Adam(_1)?|lamb_[mv]|AdamWeightDecayOptimizer(_\d+)?|LAMBOptimizer(_\d+)?"
    r"|global_step|beta[12]_power|temperature)(/.*)?"
)

# The outer scope of a TF Hub module.
HUB_SCOPE = "module/"


class Translation(NamedTuple):
    """A name in the other format.

    Args:
        name: str.
        transposed: bool. Whether the tensor is the transpose of the variable.
    """

    name: str
    transposed: bool


class NameTable:
    """Translates names of one family in both directions.

    Args:
        family: "bert", "albert" or "electra".
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._to_huggingface: list[tuple[re.Pattern[str], str, bool]] = []
        self._to_google: list[tuple[re.Pattern[str], str, bool]] = []
        for row in (*ENCODERS[family], *(row for rows in HEADS[family].values() for row in rows)):
            for google, huggingface, transposed in expand(row):
                self._to_huggingface.append((_pattern(google), huggingface, transposed))
                self._to_google.append((_pattern(huggingface), google, transposed))

    def to_huggingface(self, name: str) -> Translation | None:
        """Returns the tensor of a Google variable, or None."""
        return _translate(self._to_huggingface, name.removeprefix(HUB_SCOPE))

    def to_google(self, name: str) -> Translation | None:
        """Returns the Google variable of a tensor, or None."""
        return _translate(self._to_google, name)


def expand(row: Row) -> list[tuple[str, str, bool]]:
    """Returns the (Google name, Hugging Face name, transposed) of a row, with `{i}` and `{j}`."""
    return [
        (row.google + google, row.huggingface + huggingface, transposed)
        for google, huggingface, transposed in _KINDS[row.kind]
    ]


def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for letter in "ij":
        text = text.replace(re.escape(f"{{{letter}}}"), rf"(?P<{letter}>0|[1-9]\d{{0,3}})")
    return re.compile(text)


def _translate(rows: list[tuple[re.Pattern[str], str, bool]], name: str) -> Translation | None:
    for pattern, template, transposed in rows:
        match = pattern.fullmatch(name)
        if match:
            return Translation(template.format(**match.groupdict()), transposed)
    return None


def find_family(names: list[str]) -> str | None:
    """Returns the family of a Google checkpoint, from the names of its variables.

    Args:
        names: names of the variables.

    Returns:
        "bert", "albert", "electra" or None.

    >>> find_family(["bert/encoder/layer_0/output/dense/kernel", "global_step"])
    'bert'
    """
    plain = [name.removeprefix(HUB_SCOPE) for name in names]
    for family, scope in (
        ("electra", "electra/embeddings/"),
        ("albert", "bert/encoder/transformer/group_"),
        ("bert", "bert/encoder/layer_"),
    ):
        if any(name.startswith(scope) for name in plain):
            return family
    return None
