"""DistilBERT's models and configurations to compare."""

import transformers

CONFIG = transformers.DistilBertConfig
MODELS = {
    "": transformers.DistilBertModel,
    "classification": transformers.DistilBertForSequenceClassification,
    "token_classification": transformers.DistilBertForTokenClassification,
    "question_answering": transformers.DistilBertForQuestionAnswering,
    "multiple_choice": transformers.DistilBertForMultipleChoice,
    "masked_lm": transformers.DistilBertForMaskedLM,
}
SMALL = {
    "vocab_size": 61,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 24,
    "max_position_embeddings": 24,
}
VARIANTS = {
    "plain": {},
    "sinusoidal": {"sinusoidal_pos_embds": True, "activation": "relu", "vocab_size": 67},
    "one_head": {"n_heads": 1, "n_layers": 3, "activation": "gelu_new", "pad_token_id": 5},
    "untied": {"tie_word_embeddings": False, "n_heads": 2, "activation": "silu"},
}
GOLDENS = [
    ("", "one_head"),
    ("classification", "plain"),
    ("masked_lm", "untied"),
    ("token_classification", "sinusoidal"),
    ("question_answering", "untied"),
    ("multiple_choice", "one_head"),
]
