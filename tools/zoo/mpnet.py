"""MPNet's models and configurations to compare."""

import transformers

CONFIG = transformers.MPNetConfig
MODELS = {
    "": transformers.MPNetModel,
    "classification": transformers.MPNetForSequenceClassification,
    "token_classification": transformers.MPNetForTokenClassification,
    "question_answering": transformers.MPNetForQuestionAnswering,
    "multiple_choice": transformers.MPNetForMultipleChoice,
    "masked_lm": transformers.MPNetForMaskedLM,
}
SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    # Two positions are before the first position of text.
    "max_position_embeddings": 20,
}
VARIANTS = {
    "plain": {},
    # The masked-language-model head does not use `hidden_act`.
    "relu": {"hidden_act": "relu", "vocab_size": 67, "layer_norm_eps": 1e-3},
    # transformers ignores both: positions start after id 1, and there are 32 buckets.
    "ignored": {"pad_token_id": 5, "relative_attention_num_buckets": 40},
    "untied": {"tie_word_embeddings": False, "num_attention_heads": 1, "num_hidden_layers": 3},
}
GOLDENS = [
    ("", "ignored"),
    ("classification", "relu"),
    ("multiple_choice", "plain"),
    ("masked_lm", "relu"),
    ("token_classification", "untied"),
    ("question_answering", "ignored"),
]
