"""ModernBERT's models and configurations to compare."""

import transformers

CONFIG = transformers.ModernBertConfig
MODELS = {
    "": transformers.ModernBertModel,
    "classification": transformers.ModernBertForSequenceClassification,
    "token_classification": transformers.ModernBertForTokenClassification,
    "question_answering": transformers.ModernBertForQuestionAnswering,
    "multiple_choice": transformers.ModernBertForMultipleChoice,
    "masked_lm": transformers.ModernBertForMaskedLM,
}
SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "local_attention": 6,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
VARIANTS = {
    "plain": {"num_hidden_layers": 3},
    "biases": {
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_bias": True,
        "decoder_bias": False,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "hidden_activation": "relu",
        "classifier_activation": "silu",
        "norm_eps": 1e-3,
        "vocab_size": 67,
    },
    "mean_pooling": {
        "classifier_pooling": "mean",
        "num_attention_heads": 2,
        "local_attention": 5,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
        },
    },
    "all_local": {
        "layer_types": ["sliding_attention"] * 2,
        "num_hidden_layers": 2,
        "tie_word_embeddings": False,
        "num_attention_heads": 1,
    },
}
# A masked query whose window is masked attends to padding, so its output is meaningless.
FIRST_COLUMN_ATTENDED = ("classification", "multiple_choice")
GOLDENS = [
    ("", "plain"),
    ("classification", "mean_pooling"),
    ("question_answering", "biases"),
    ("masked_lm", "all_local"),
    ("token_classification", "all_local"),
    ("multiple_choice", "plain"),
]
