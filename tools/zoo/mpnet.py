"""MPNet's models and the configurations they are compared in."""

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
    # Two of them stand before the first position of text.
    "max_position_embeddings": 20,
}
VARIANTS = {
    "plain": {},
    # `hidden_act` is not the activation of the masked-language-model head.
    "relu": {"hidden_act": "relu", "vocab_size": 67, "layer_norm_eps": 1e-3},
    # Positions are counted from the id 1, and 32 buckets are used, whatever these say.
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
