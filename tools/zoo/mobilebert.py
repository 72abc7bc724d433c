"""MobileBERT's models and the configurations they are compared in."""

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
    # Heads need not divide it: they share the bottleneck's width.
    "hidden_size": 14,
    "intra_bottleneck_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 12,
    "num_feedforward_networks": 2,
    "max_position_embeddings": 18,
}
# Nothing normalizes: with weights as large as other families', states would grow to 20 and more.
SCALE = 0.8
VARIANTS = {
    "plain": {},
    # Two of a block's norms, and the embeddings', have an epsilon of their own.
    "layer_norm": {
        "normalization_type": "layer_norm",
        "layer_norm_eps": 1e-2,
        "hidden_act": "gelu",
        "num_feedforward_networks": 3,
        "num_hidden_layers": 1,
    },
    # No key is as usual: the weights of the query's and key's bottleneck are there, and not used.
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
    # Queries and keys read the block's input.
    "square": {
        "hidden_size": 12,
        "key_query_shared_bottleneck": False,
        "classifier_dropout": 0.2,
        "tie_word_embeddings": False,
    },
    # The weights of the embeddings' projection are there, and not used.
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
