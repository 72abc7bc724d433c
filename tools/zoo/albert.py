"""ALBERT's models and configurations to compare."""

import transformers

CONFIG = transformers.AlbertConfig
MODELS = {
    "": transformers.AlbertModel,
    "classification": transformers.AlbertForSequenceClassification,
    "token_classification": transformers.AlbertForTokenClassification,
    "question_answering": transformers.AlbertForQuestionAnswering,
    "multiple_choice": transformers.AlbertForMultipleChoice,
    "masked_lm": transformers.AlbertForMaskedLM,
    "masked_lm+sentence_order": transformers.AlbertForPreTraining,
}
SMALL = {
    "vocab_size": 61,
    "embedding_size": 12,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
VARIANTS = {
    "plain": {},
    "groups": {"num_hidden_layers": 5, "num_hidden_groups": 2, "hidden_act": "relu"},
    "inner": {"inner_group_num": 2, "layer_norm_eps": 1e-3},
    "all": {
        "num_hidden_layers": 4,
        "num_hidden_groups": 3,
        "inner_group_num": 2,
        "type_vocab_size": 3,
        "num_attention_heads": 1,
    },
    "untied": {"tie_word_embeddings": False, "embedding_size": 16, "vocab_size": 67},
}
GOLDENS = [
    ("", "inner"),
    ("token_classification", "groups"),
    ("masked_lm+sentence_order", "plain"),
    ("classification", "groups"),
    ("question_answering", "untied"),
    ("multiple_choice", "inner"),
    ("masked_lm", "untied"),
]
