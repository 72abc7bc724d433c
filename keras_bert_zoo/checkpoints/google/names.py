"""Names of Google's TF1 checkpoints and of Hugging Face's tensors, as data.

Each row maps a scope of google-research/bert, /albert or /electra to a module of Hugging Face's,
`{i}` and `{j}` being numbers; its kind says which variables the scope has and how they are named
there. A table is read in both directions. What transformers 4.44.2 does in load_tf_weights_in_bert,
_albert and _electra is the reference.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Kind of a scope -> (variable in it, tensor of the module, whether one is the other's transpose).
_KINDS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "dense": (("/kernel", ".weight", True), ("/bias", ".bias", False)),
    "norm": (("/gamma", ".weight", False), ("/beta", ".bias", False)),
    "table": (("", ".weight", False),),
    # Classifiers of Google's keep their matrix as (labels, hidden), as PyTorch does.
    "output": (("output_weights", ".weight", False), ("output_bias", ".bias", False)),
    "output_bias": (("output_bias", ".bias", False),),
}


class Row(NamedTuple):
    """One row of a table.

    Args:
        google: str. Scope; of the output kinds the part before `output_`.
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

# The encoder's part of each family: all of it must be there.
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

# What may stand beside the encoder; a part is there as a whole or not at all.
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

# A dense layer that is there only where the two widths differ.
OPTIONAL_ROWS = (
    "albert.encoder.embedding_hidden_mapping_in",
    "electra.embeddings_project",
    "generator.embeddings_project",
)

# Optimizers' slots and counters: no weights. (LAMB's slots are named as Adam's.) The temperature is
# of ELECTRA's sampling.
NOT_WEIGHTS = re.compile(
    r"(.*/)?(adam_[mv]|Adam(_1)?|lamb_[mv]|AdamWeightDecayOptimizer(_\d+)?|LAMBOptimizer(_\d+)?"
    r"|global_step|beta[12]_power|temperature)(/.*)?"
)

# Scopes that a TF Hub module puts around everything.
HUB_SCOPE = "module/"


class Translation(NamedTuple):
    """A variable's counterpart.

    Args:
        name: str.
        transposed: bool. Whether one is the other's transpose.
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
        """Returns the tensor that a variable of Google's is, or None."""
        return _translate(self._to_huggingface, name.removeprefix(HUB_SCOPE))

    def to_google(self, name: str) -> Translation | None:
        """Returns the variable of Google's that a tensor is, or None."""
        return _translate(self._to_google, name)


def expand(row: Row) -> list[tuple[str, str, bool]]:
    """Returns a row's (Google's name, Hugging Face's name, transposed), numbers left open."""
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
        found = pattern.fullmatch(name)
        if found:
            return Translation(template.format(**found.groupdict()), transposed)
    return None


def find_family(names: list[str]) -> str | None:
    """Tells by its variables of which family a checkpoint of Google's is.

    Args:
        names: of the variables.

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
