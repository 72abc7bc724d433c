"""CamemBERT's models to compare, in configurations of RoBERTa."""

import transformers

from tools.zoo import roberta

CONFIG = transformers.CamembertConfig
MODELS = {
    head: getattr(transformers, model.__name__.replace("Roberta", "Camembert"))
    for head, model in roberta.MODELS.items()
}
SMALL = roberta.SMALL
VARIANTS = {name: roberta.VARIANTS[name] for name in ("plain", "padding_5", "untied")}
GOLDENS = [
    ("", "padding_5"),
    ("classification", "plain"),
    ("token_classification", "untied"),
    ("question_answering", "padding_5"),
    ("multiple_choice", "padding_5"),
    ("masked_lm", "plain"),
]
