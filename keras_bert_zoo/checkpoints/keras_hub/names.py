"""Tables of the layers and config keys of KerasHub's and Hugging Face's encoders.

A KerasHub preset names its weights by the classes and attributes of Keras layers, for example
`layers/transformer_encoder_1/_self_attention_layer/query_dense/vars/0`. The names are the same from
Keras 3.0 with keras-nlp 0.8 to Keras 3.15 with keras-hub 0.32. A dense layer has a kernel (inputs,
outputs) and a bias, and a LayerNorm has gamma and beta. In kernels of attention, `heads` and `head`
are two dimensions. The tables are read in both directions.

Sources: keras-hub 0.32 models/*/*_backbone.py, *_text_classifier.py, *_masked_lm.py, and
layers/modeling/transformer_encoder.py; transformers 5.23 models/*/modeling_*.py.
"""

from __future__ import annotations

from keras_bert_zoo.checkpoints.keras_hub.keys import (
    ABSOLUTE,
    ALWAYS,
    BERT_DEFAULTS,
    CONFIG,
    ERF_GELU,
    SEGMENTS,
    TANH_GELU,
)
from keras_bert_zoo.checkpoints.keras_hub.layout import Family, Head, Layer

# Role -> layer of Keras' TransformerEncoder.
_ATTENTION = "_self_attention_layer/"
_ENCODER = {
    "query": (_ATTENTION + "query_dense", "hidden -> heads head"),
    "key": (_ATTENTION + "key_dense", "hidden -> heads head"),
    "value": (_ATTENTION + "value_dense", "hidden -> heads head"),
    "attention": (_ATTENTION + "output_dense", "heads head -> hidden"),
    "attention_norm": ("_self_attention_layer_norm", "hidden"),
    "intermediate": ("_feedforward_intermediate_dense", "hidden -> intermediate"),
    "output": ("_feedforward_output_dense", "intermediate -> hidden"),
    "output_norm": ("_feedforward_layer_norm", "hidden"),
}


def _block(**names: str) -> tuple[Layer, ...]:
    return tuple(
        Layer(*_ENCODER[role][:1], name, _ENCODER[role][1]) for role, name in names.items()
    )


_BERT_BLOCK = _block(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    output="output.dense",
    output_norm="output.LayerNorm",
)


def _embeddings(width: str) -> tuple[Layer, ...]:
    """Embeddings with segments: BERT's, ALBERT's, ELECTRA's and FNet's."""
    return (
        Layer(
            "layers/reversible_embedding", "embeddings.word_embeddings", f"vocabulary by {width}"
        ),
        Layer(
            "layers/position_embedding", "embeddings.position_embeddings", f"positions by {width}"
        ),
        Layer("layers/embedding", "embeddings.token_type_embeddings", f"segments by {width}"),
        Layer("layers/layer_normalization", "embeddings.LayerNorm", width),
    )


_JOINED = "layers/token_and_position_embedding/"
# Embeddings without segments: RoBERTa's and DistilBERT's.
_JOINED_EMBEDDINGS = (
    Layer(_JOINED + "token_embedding", "embeddings.word_embeddings", "vocabulary by hidden"),
    Layer(_JOINED + "position_embedding", "embeddings.position_embeddings", "positions by hidden"),
    Layer("layers/layer_normalization", "embeddings.LayerNorm", "hidden"),
)

_LOGITS = Layer("layers/dense", "classifier", "hidden -> labels")
_MASKED_LM = "layers/masked_lm_head"


def _mlm_reason(model: str, norm: str, activation: str = "") -> str:
    also = f" {activation} and" if activation else ""
    return (
        f"KerasHub's MaskedLM head applies{also} a LayerNorm with epsilon 1e-5, but {model}'s "
        f"head has {norm}, so the two cannot be equal"
    )


BERT = Family(
    name="Bert",
    model_type="bert",
    model="BertModel",
    prefix="bert.",
    config=CONFIG | SEGMENTS,
    fixed={"hidden_act": TANH_GELU, "layer_norm_eps": (1e-12,), **ABSOLUTE},
    defaults=BERT_DEFAULTS,
    neutral=("directionality", "pooler_type"),
    layers=_embeddings("hidden"),
    block_name="encoder.layer.{i}.",
    block=_BERT_BLOCK,
    pooler=Layer("layers/dense", "pooler.dense", "hidden -> hidden"),
    heads={
        "TextClassifier": Head(
            "BertForSequenceClassification", (_LOGITS,), {"dropout": "classifier_dropout"}
        )
    },
    refused={
        "MaskedLM": _mlm_reason("BertForMaskedLM", "the encoder's tanh-GELU and 1e-12", "erf-GELU")
    },
)


def _roberta(name: str, model_type: str, hf: str) -> Family:
    return Family(
        name=name,
        model_type=model_type,
        model=f"{hf}Model",
        prefix="roberta.",
        config=CONFIG,
        fixed={
            "hidden_act": ERF_GELU,
            "layer_norm_eps": (1e-5,),
            "type_vocab_size": (1,),
            **ABSOLUTE,
        },
        defaults=BERT_DEFAULTS | ({"vocab_size": 50265} if name == "Roberta" else {}),
        layers=_JOINED_EMBEDDINGS,
        block_name="encoder.layer.{i}.",
        block=_BERT_BLOCK,
        position_offset=1,
        segment_table="embeddings.token_type_embeddings.weight",
        heads={
            "TextClassifier": Head(
                f"{hf}ForSequenceClassification",
                (
                    Layer("layers/dense", "classifier.dense", "hidden -> hidden"),
                    Layer("layers/dense_1", "classifier.out_proj", "hidden -> labels"),
                ),
                {"dropout": "classifier_dropout"},
            ),
            "MaskedLM": Head(
                f"{hf}ForMaskedLM",
                (
                    Layer(_MASKED_LM + "/_intermediate_dense", "lm_head.dense", "hidden -> hidden"),
                    Layer(_MASKED_LM + "/_intermediate_layer_norm", "lm_head.layer_norm", "hidden"),
                    Layer(_MASKED_LM, "lm_head.bias", "vocabulary"),
                ),
                fixed={"tie_word_embeddings": (True,)},
            ),
        },
    )


ALBERT = Family(
    name="Albert",
    model_type="albert",
    model="AlbertModel",
    prefix="albert.",
    config=CONFIG
    | SEGMENTS
    | {
        "embedding_dim": ("embedding_size",),
        "num_groups": ("num_hidden_groups",),
        "num_inner_repetitions": ("inner_group_num",),
    },
    fixed={"hidden_act": TANH_GELU, "layer_norm_eps": (1e-12,), **ABSOLUTE},
    defaults=BERT_DEFAULTS
    | {
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_groups": 1,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "inner_group_num": 1,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
    },
    neutral=("net_structure_type", "gap_size", "num_memory_blocks", "down_scale_factor"),
    layers=(
        *_embeddings("embedding"),
        Layer("layers/dense", "encoder.embedding_hidden_mapping_in", "embedding -> hidden"),
    ),
    block_name="encoder.albert_layer_groups.{g}.albert_layers.{r}.",
    block=_block(
        query="attention.query",
        key="attention.key",
        value="attention.value",
        attention="attention.dense",
        attention_norm="attention.LayerNorm",
        intermediate="ffn",
        output="ffn_output",
        output_norm="full_layer_layer_norm",
    ),
    pooler=Layer("layers/dense_1", "pooler", "hidden -> hidden"),
    heads={
        "TextClassifier": Head(
            "AlbertForSequenceClassification", (_LOGITS,), {"dropout": "classifier_dropout_prob"}
        )
    },
    refused={"MaskedLM": _mlm_reason("AlbertForMaskedLM", "1e-12")},
)

DISTILBERT = Family(
    name="DistilBert",
    model_type="distilbert",
    model="DistilBertModel",
    prefix="distilbert.",
    config={
        "vocabulary_size": ("vocab_size",),
        "num_layers": ("n_layers",),
        "num_heads": ("n_heads",),
        "hidden_dim": ("dim",),
        "intermediate_dim": ("hidden_dim",),
        "dropout": ("dropout", "attention_dropout"),
        "max_sequence_length": ("max_position_embeddings",),
    },
    # In a checkpoint, sinusoidal positions are stored as a table.
    fixed={"activation": ERF_GELU, "sinusoidal_pos_embds": (False, True), **ALWAYS},
    defaults={
        "vocab_size": 30522,
        "n_layers": 6,
        "n_heads": 12,
        "dim": 768,
        "hidden_dim": 3072,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "max_position_embeddings": 512,
        "seq_classif_dropout": 0.2,
    },
    neutral=("qa_dropout", "tie_weights_"),
    layers=_JOINED_EMBEDDINGS,
    block_name="transformer.layer.{i}.",
    block=_block(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention="attention.out_lin",
        attention_norm="sa_layer_norm",
        intermediate="ffn.lin1",
        output="ffn.lin2",
        output_norm="output_layer_norm",
    ),
    heads={
        "TextClassifier": Head(
            "DistilBertForSequenceClassification",
            (
                Layer("layers/dense", "pre_classifier", "hidden -> hidden"),
                Layer("layers/dense_1", "classifier", "hidden -> labels"),
            ),
            {"dropout": "seq_classif_dropout"},
        )
    },
    refused={"MaskedLM": _mlm_reason("DistilBertForMaskedLM", "1e-12")},
)

DEBERTA = Family(
    name="DebertaV3",
    model_type="deberta-v2",
    model="DebertaV2Model",
    prefix="deberta.",
    # `max_sequence_length` limits the relative positions. There are no absolute positions.
    config=CONFIG | {"bucket_size": ("position_buckets",)},
    fixed={
        "hidden_act": ERF_GELU,
        "layer_norm_eps": (1e-7,),
        "relative_attention": (True,),
        "max_relative_positions": (-1, 0),
        "norm_rel_ebd": ("layer_norm",),
        "share_att_key": (True,),
        "pos_att_type": (["p2c", "c2p"], ["c2p", "p2c"], "p2c|c2p", "c2p|p2c"),
        "position_biased_input": (False,),
        "type_vocab_size": (0,),
        "conv_kernel_size": (0,),
        **ALWAYS,
    },
    defaults=BERT_DEFAULTS
    | {
        "vocab_size": 128100,
        "hidden_size": 1536,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "intermediate_size": 6144,
        "layer_norm_eps": 1e-7,
        "type_vocab_size": 0,
        "relative_attention": False,
        "max_relative_positions": -1,
        "position_biased_input": True,
        "norm_rel_ebd": "none",
        "share_att_key": False,
        "pos_att_type": None,
        "position_buckets": -1,
        "pooler_dropout": 0.0,
    },
    neutral=(
        "legacy",
        "conv_act",
        "cls_dropout",
        "pooler_hidden_size",
        "padding_idx",
        "position_embedding_type",
    ),
    layers=(
        Layer("layers/reversible_embedding", "embeddings.word_embeddings", "vocabulary by hidden"),
        Layer("layers/layer_normalization", "embeddings.LayerNorm", "hidden"),
        Layer("layers/relative_embedding", "encoder.rel_embeddings", "distances by hidden"),
        Layer("layers/relative_embedding/layer_norm", "encoder.LayerNorm", "hidden"),
    ),
    block_path="layers/disentangled_attention_encoder{k}/",
    block_name="encoder.layer.{i}.",
    block=(
        Layer(_ATTENTION + "_query_dense", "attention.self.query_proj", "hidden -> heads head"),
        Layer(_ATTENTION + "_key_dense", "attention.self.key_proj", "hidden -> heads head"),
        Layer(_ATTENTION + "_value_dense", "attention.self.value_proj", "hidden -> heads head"),
        Layer(_ATTENTION + "_output_dense", "attention.output.dense", "hidden -> hidden"),
        *_BERT_BLOCK[4:],
    ),
    heads={
        "TextClassifier": Head(
            "DebertaV2ForSequenceClassification",
            (
                Layer("layers/dense", "pooler.dense", "hidden -> hidden"),
                Layer("layers/dense_1", "classifier", "hidden -> labels"),
            ),
            {"dropout": "pooler_dropout"},
            {"pooler_hidden_act": ERF_GELU},
        )
    },
    refused={"MaskedLM": _mlm_reason("DebertaV2ForMaskedLM", "1e-7")},
)

ELECTRA = Family(
    name="Electra",
    model_type="electra",
    model="ElectraModel",
    prefix="electra.",
    config={"vocab_size": ("vocab_size",)}
    | {key: value for key, value in CONFIG.items() if key != "vocabulary_size"}
    | SEGMENTS
    | {"embedding_dim": ("embedding_size",)},
    fixed={"hidden_act": TANH_GELU, "layer_norm_eps": (1e-12,), **ABSOLUTE},
    defaults=BERT_DEFAULTS
    | {
        "embedding_size": 128,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
    neutral=(
        "classifier_dropout",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_last_dropout",
    ),
    layers=(
        *_embeddings("embedding"),
        Layer("layers/dense", "embeddings_project", "embedding -> hidden"),
    ),
    block_name="encoder.layer.{i}.",
    block=_BERT_BLOCK,
    pooler=Layer("layers/dense_1", "", "hidden -> hidden"),
    heads={},
)

FNET = Family(
    name="FNet",
    model_type="fnet",
    model="FNetModel",
    prefix="fnet.",
    config={key: value for key, value in CONFIG.items() if key != "num_heads"}
    | {"dropout": ("hidden_dropout_prob",)}
    | SEGMENTS,
    fixed={
        "hidden_act": TANH_GELU,
        "layer_norm_eps": (1e-12,),
        "use_tpu_fourier_optimizations": (False,),
        **ALWAYS,
    },
    defaults=BERT_DEFAULTS | {"vocab_size": 32000, "type_vocab_size": 4, "hidden_act": "gelu_new"},
    neutral=("tpu_short_seq_length",),
    layers=(
        *_embeddings("hidden"),
        Layer("layers/dense", "embeddings.projection", "hidden -> hidden"),
    ),
    block_path="layers/f_net_encoder{k}/",
    block_name="encoder.layer.{i}.",
    block=(
        Layer("_mixing_layer_norm", "fourier.output.LayerNorm", "hidden"),
        Layer("_intermediate_dense", "intermediate.dense", "hidden -> intermediate"),
        Layer("_output_dense", "output.dense", "intermediate -> hidden"),
        Layer("_output_layer_norm", "output.LayerNorm", "hidden"),
    ),
    pooler=Layer("layers/dense_1", "pooler.dense", "hidden -> hidden"),
    heads={
        # FNetForSequenceClassification uses the encoder's dropout.
        "TextClassifier": Head(
            "FNetForSequenceClassification", (_LOGITS,), {"dropout": "hidden_dropout_prob"}
        )
    },
    refused={
        "MaskedLM": _mlm_reason("FNetForMaskedLM", "the encoder's tanh-GELU and 1e-12", "erf-GELU")
    },
)

FAMILIES: dict[str, Family] = {
    family.backbone: family
    for family in (
        BERT,
        _roberta("Roberta", "roberta", "Roberta"),
        _roberta("XLMRoberta", "xlm-roberta", "XLMRoberta"),
        ALBERT,
        DISTILBERT,
        DEBERTA,
        ELECTRA,
        FNET,
    )
}

# Backbones of KerasHub -> the reason why they are not supported.
UNSUPPORTED = {
    "RoformerV2Backbone": "Hugging Face has no RoFormer V2 (RMS norms, no biases)",
    "ESMBackbone": "it is a model of proteins, not of text",
    "XLNetBackbone": "it has permutations and two-stream attention, unlike BERT",
}
