"""RoFormer's models and configurations to compare."""

import transformers

CONFIG = transformers.RoFormerConfig
MODELS = {
    "": transformers.RoFormerModel,
    "classification": transformers.RoFormerForSequenceClassification,
    "token_classification": transformers.RoFormerForTokenClassification,
    "question_answering": transformers.RoFormerForQuestionAnswering,
    "multiple_choice": transformers.RoFormerForMultipleChoice,
    "masked_lm": transformers.RoFormerForMaskedLM,
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
    "plain": {},
    "narrow": {"embedding_size": 12, "hidden_act": "relu", "layer_norm_eps": 1e-3},
    "wide": {"embedding_size": 20, "type_vocab_size": 3, "vocab_size": 67, "pad_token_id": 5},
    "values": {"rotary_value": True, "hidden_act": "gelu_new", "num_attention_heads": 1},
    "untied": {"tie_word_embeddings": False, "num_attention_heads": 2, "num_hidden_layers": 3},
}
GOLDENS = [
    ("", "values"),
    ("classification", "narrow"),
    ("multiple_choice", "plain"),
    ("masked_lm", "wide"),
    ("token_classification", "values"),
    ("question_answering", "untied"),
]
