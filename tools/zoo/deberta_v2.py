"""DeBERTa v2's and v3's models and configurations to compare."""

import transformers

CONFIG = transformers.DebertaV2Config
MODELS = {
    "": transformers.DebertaV2Model,
    "classification": transformers.DebertaV2ForSequenceClassification,
    "token_classification": transformers.DebertaV2ForTokenClassification,
    "question_answering": transformers.DebertaV2ForQuestionAnswering,
    "multiple_choice": transformers.DebertaV2ForMultipleChoice,
    "masked_lm": transformers.DebertaV2ForMaskedLM,
}
SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
VARIANTS = {
    # As microsoft/deberta-v3-base, but small.
    "v3": {
        "relative_attention": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "max_relative_positions": -1,
    },
    # As microsoft/deberta-v2-xlarge, with a convolution.
    "v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
        "conv_act": "gelu",
        "vocab_size": 67,
    },
    "own_projections": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "max_relative_positions": 5,
        "type_vocab_size": 3,
        "embedding_size": 12,
        "conv_kernel_size": 5,
        "conv_groups": 2,
        "pooler_hidden_act": "tanh",
        "cls_dropout": 0.2,
    },
    "one_direction": {
        "relative_attention": True,
        "pos_att_type": ["p2c"],
        "hidden_act": "relu",
        "layer_norm_eps": 1e-3,
        "num_attention_heads": 1,
        "tie_word_embeddings": False,
    },
    "no_positions": {"relative_attention": False, "num_hidden_layers": 3, "legacy": False},
}
# A masked query attends equally to all tokens and padding, so its output is meaningless.
FIRST_COLUMN_ATTENDED = ("classification", "multiple_choice")
GOLDENS = [
    ("", "v3"),
    ("token_classification", "v2"),
    ("classification", "own_projections"),
    ("masked_lm", "no_positions"),
    ("question_answering", "one_direction"),
    ("multiple_choice", "v3"),
]
