"""ERNIE's models and configurations to compare."""

import transformers

CONFIG = transformers.ErnieConfig
MODELS = {
    "": transformers.ErnieModel,
    "classification": transformers.ErnieForSequenceClassification,
    "token_classification": transformers.ErnieForTokenClassification,
    "question_answering": transformers.ErnieForQuestionAnswering,
    "multiple_choice": transformers.ErnieForMultipleChoice,
    "masked_lm": transformers.ErnieForMaskedLM,
    "next_sentence": transformers.ErnieForNextSentencePrediction,
    "masked_lm+next_sentence": transformers.ErnieForPreTraining,
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
    "plain": {"type_vocab_size": 4, "layer_norm_eps": 1e-5},
    "tasks": {
        "use_task_id": True,
        "hidden_act": "relu",
        "vocab_size": 67,
        "classifier_dropout": 0.2,
    },
    "one_head": {"use_task_id": True, "task_type_vocab_size": 16, "num_attention_heads": 1},
    "untied": {"tie_word_embeddings": False, "num_hidden_layers": 3, "pad_token_id": 5},
}
GOLDENS = [
    ("", "tasks"),
    ("classification", "plain"),
    ("question_answering", "one_head"),
    ("next_sentence", "tasks"),
    ("token_classification", "untied"),
    ("multiple_choice", "tasks"),
    ("masked_lm", "one_head"),
    ("masked_lm+next_sentence", "plain"),
]
