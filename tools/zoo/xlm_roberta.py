"""XLM-RoBERTa's models to compare, in configurations of RoBERTa."""

import transformers

from tools.zoo import roberta

CONFIG = transformers.XLMRobertaConfig
MODELS = {
    head: getattr(transformers, model.__name__.replace("Roberta", "XLMRoberta"))
    for head, model in roberta.MODELS.items()
}
SMALL = roberta.SMALL
VARIANTS = {name: roberta.VARIANTS[name] for name in ("plain", "padding_5", "untied")}
GOLDENS = [
    ("", "plain"),
    ("classification", "plain"),
    ("token_classification", "padding_5"),
    ("question_answering", "plain"),
    ("multiple_choice", "untied"),
    ("masked_lm", "untied"),
]
