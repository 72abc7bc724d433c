"""BERT's models and configurations to compare."""

import transformers

CONFIG = transformers.BertConfig
MODELS = {
    "": transformers.BertModel,
    "classification": transformers.BertForSequenceClassification,
    "token_classification": transformers.BertForTokenClassification,
    "question_answering": transformers.BertForQuestionAnswering,
    "multiple_choice": transformers.BertForMultipleChoice,
    "next_sentence": transformers.BertForNextSentencePrediction,
    "masked_lm": transformers.BertForMaskedLM,
    "masked_lm+next_sentence": transformers.BertForPreTraining,
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
    "tanh_gelu": {
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        "num_attention_heads": 2,
    },
    "relu": {"hidden_act": "relu", "type_vocab_size": 3, "vocab_size": 67, "layer_norm_eps": 1e-3},
    "one_head": {"hidden_act": "silu", "num_attention_heads": 1, "num_hidden_layers": 3},
    "untied": {"tie_word_embeddings": False, "pad_token_id": 5, "classifier_dropout": 0.2},
    "labels": {
        "id2label": {0: "no", 1: "maybe", 2: "yes"},
        "label2id": {"no": 0, "maybe": 1, "yes": 2},
        "classifier_dropout": 0.2,
        "problem_type": "single_label_classification",
    },
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "multi_label": {"num_labels": 5, "problem_type": "multi_label_classification"},
}
ONLY = {
    "labels": ("classification", "token_classification"),
    "regression": ("classification",),
    "multi_label": ("classification",),
}
GOLDENS = [
    ("", "plain"),
    ("", "relu"),
    ("classification", "labels"),
    ("token_classification", "tanh_gelu"),
    ("question_answering", "one_head"),
    ("multiple_choice", "plain"),
    ("masked_lm", "untied"),
    ("masked_lm+next_sentence", "relu"),
    ("next_sentence", "untied"),
]
