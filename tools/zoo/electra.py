"""ELECTRA's models and configurations to compare."""

import transformers

CONFIG = transformers.ElectraConfig
MODELS = {
    "": transformers.ElectraModel,
    "classification": transformers.ElectraForSequenceClassification,
    "token_classification": transformers.ElectraForTokenClassification,
    "question_answering": transformers.ElectraForQuestionAnswering,
    "multiple_choice": transformers.ElectraForMultipleChoice,
    "masked_lm": transformers.ElectraForMaskedLM,
    "replaced_token_detection": transformers.ElectraForPreTraining,
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
    # The heads of the classifier and the generator do not use `hidden_act`.
    "unprojected": {"embedding_size": 16, "hidden_act": "relu", "layer_norm_eps": 1e-3},
    "wide": {"embedding_size": 20, "type_vocab_size": 3, "vocab_size": 67, "pad_token_id": 5},
    "untied": {"tie_word_embeddings": False, "hidden_act": "gelu_new", "num_attention_heads": 1},
    "summary": {"summary_activation": "tanh", "classifier_dropout": 0.2, "num_hidden_layers": 3},
    "no_summary": {"summary_use_proj": False, "summary_activation": ""},
}
GOLDENS = [
    ("", "plain"),
    ("classification", "unprojected"),
    ("multiple_choice", "summary"),
    ("masked_lm", "wide"),
    ("replaced_token_detection", "plain"),
    ("token_classification", "untied"),
    ("question_answering", "wide"),
]
