"""RoBERTa's models and configurations to compare."""

import transformers

CONFIG = transformers.RobertaConfig
MODELS = {
    "": transformers.RobertaModel,
    "classification": transformers.RobertaForSequenceClassification,
    "token_classification": transformers.RobertaForTokenClassification,
    "question_answering": transformers.RobertaForQuestionAnswering,
    "multiple_choice": transformers.RobertaForMultipleChoice,
    "masked_lm": transformers.RobertaForMaskedLM,
}
SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    # Two positions are before the first position of text.
    "max_position_embeddings": 26,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
VARIANTS = {
    "plain": {},
    # The masked-language-model head does not use `hidden_act`.
    "relu": {"hidden_act": "relu", "type_vocab_size": 3, "vocab_size": 67, "layer_norm_eps": 1e-3},
    "padding_0": {"pad_token_id": 0, "num_attention_heads": 1, "num_hidden_layers": 3},
    "padding_5": {"pad_token_id": 5, "max_position_embeddings": 32, "hidden_act": "gelu_new"},
    "untied": {"tie_word_embeddings": False, "num_attention_heads": 2, "classifier_dropout": 0.2},
}
GOLDENS = [
    ("", "padding_5"),
    ("classification", "relu"),
    ("multiple_choice", "plain"),
    ("masked_lm", "relu"),
    ("token_classification", "padding_0"),
    ("question_answering", "untied"),
]
