"""MobileBERT's models and configurations to compare."""

import transformers

CONFIG = transformers.MobileBertConfig
MODELS = {
    "": transformers.MobileBertModel,
    "classification": transformers.MobileBertForSequenceClassification,
    "token_classification": transformers.MobileBertForTokenClassification,
    "question_answering": transformers.MobileBertForQuestionAnswering,
    "multiple_choice": transformers.MobileBertForMultipleChoice,
    "next_sentence": transformers.MobileBertForNextSentencePrediction,
    "masked_lm": transformers.MobileBertForMaskedLM,
    "masked_lm+next_sentence": transformers.MobileBertForPreTraining,
}
SMALL = {
    "vocab_size": 61,
    "embedding_size": 8,
    # Need not be divisible by the heads, which divide the width of the bottleneck.
    "hidden_size": 14,
    "intra_bottleneck_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 12,
    "num_feedforward_networks": 2,
    "max_position_embeddings": 18,
}
# Without normalization, larger weights would give states above 20.
SCALE = 0.8
VARIANTS = {
    "plain": {},
    # Two norms of a block and that of the embeddings have a separate epsilon.
    "layer_norm": {
        "normalization_type": "layer_norm",
        "layer_norm_eps": 1e-2,
        "hidden_act": "gelu",
        "num_feedforward_networks": 3,
        "num_hidden_layers": 1,
    },
    # All keys differ from the defaults. The shared bottleneck of query and key has unused weights.
    "narrow_attention": {
        "use_bottleneck_attention": True,
        "classifier_activation": False,
        "type_vocab_size": 3,
        "vocab_size": 67,
    },
    "one_bottleneck": {
        "use_bottleneck_attention": True,
        "key_query_shared_bottleneck": False,
        "trigram_input": False,
        "num_feedforward_networks": 1,
        "pad_token_id": 5,
    },
    # The input of a block is also that of queries and keys.
    "square": {
        "hidden_size": 12,
        "key_query_shared_bottleneck": False,
        "classifier_dropout": 0.2,
        "tie_word_embeddings": False,
    },
    # The projection of the embeddings has unused weights.
    "no_bottleneck": {
        "use_bottleneck": False,
        "hidden_size": 12,
        "embedding_size": 12,
        "trigram_input": False,
        "normalization_type": "layer_norm",
    },
}
GOLDENS = [
    ("", "layer_norm"),
    ("classification", "narrow_attention"),
    ("next_sentence", "one_bottleneck"),
    ("masked_lm+next_sentence", "plain"),
    ("token_classification", "square"),
    ("question_answering", "layer_norm"),
    ("multiple_choice", "no_bottleneck"),
    ("masked_lm", "square"),
]
