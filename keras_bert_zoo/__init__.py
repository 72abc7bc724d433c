"""Fine-tune BERT-family encoders with Keras and export one file that takes raw strings.

The public names load on first use, so importing this package does not import TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_bert_zoo.keras_registration import register_when_imported

if TYPE_CHECKING:
    from keras_bert_zoo.adaptation.layers import select_layers
    from keras_bert_zoo.adaptation.lora import add_lora, merge_lora
    from keras_bert_zoo.adaptation.resize import extend_positions
    from keras_bert_zoo.adaptation.trim import trim_vocabulary
    from keras_bert_zoo.adaptation.vocabulary import extend_vocabulary
    from keras_bert_zoo.encoders.encoder import Encoder
    from keras_bert_zoo.encoders.registry import EncoderConfig
    from keras_bert_zoo.errors import BertZooError
    from keras_bert_zoo.presets.catalog import list_presets
    from keras_bert_zoo.presets.convert import convert_checkpoint
    from keras_bert_zoo.presets.headed_model import HeadedModel
    from keras_bert_zoo.pretraining.build import build_pretraining_data
    from keras_bert_zoo.pretraining.dataset import PretrainingData
    from keras_bert_zoo.pretraining.pretrainer import Pretrainer
    from keras_bert_zoo.pretraining.vocabulary import train_tokenizer
    from keras_bert_zoo.tasks.embedding.text_embedder import TextEmbedder
    from keras_bert_zoo.tasks.masked_lm import MaskedLM
    from keras_bert_zoo.tasks.multiple_choice import MultipleChoice
    from keras_bert_zoo.tasks.next_sentence import NextSentence
    from keras_bert_zoo.tasks.open_domain.question_answerer import OpenDomainQuestionAnswerer
    from keras_bert_zoo.tasks.question_answering.question_answerer import QuestionAnswerer
    from keras_bert_zoo.tasks.relation_classifier import RelationClassifier
    from keras_bert_zoo.tasks.text_classifier import TextClassifier
    from keras_bert_zoo.tasks.text_regressor import TextRegressor
    from keras_bert_zoo.tasks.token_classification.token_classifier import TokenClassifier
    from keras_bert_zoo.tasks.translation.translator import Translator
    from keras_bert_zoo.text.byte_bpe.tokenizer import ByteBpeTokenizer
    from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
    from keras_bert_zoo.text.tokenizer import Tokenizer
    from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer
    from keras_bert_zoo.training.checkpoints import Checkpoints
    from keras_bert_zoo.training.distillation import distill
    from keras_bert_zoo.training.rate_finder import find_learning_rate
    from keras_bert_zoo.training.throughput import Throughput
    from keras_bert_zoo.training.trackers import MLflowTracker, Tracker, WandbTracker

__version__ = "0.1.0"

__all__ = [
    "BertZooError",
    "ByteBpeTokenizer",
    "Checkpoints",
    "Encoder",
    "EncoderConfig",
    "HeadedModel",
    "MLflowTracker",
    "MaskedLM",
    "MultipleChoice",
    "NextSentence",
    "OpenDomainQuestionAnswerer",
    "Pretrainer",
    "PretrainingData",
    "QuestionAnswerer",
    "RelationClassifier",
    "SentencePieceTokenizer",
    "TextClassifier",
    "TextEmbedder",
    "TextRegressor",
    "Throughput",
    "TokenClassifier",
    "Tokenizer",
    "Tracker",
    "Translator",
    "WandbTracker",
    "WordPieceTokenizer",
    "__version__",
    "add_lora",
    "build_pretraining_data",
    "convert_checkpoint",
    "distill",
    "extend_positions",
    "extend_vocabulary",
    "find_learning_rate",
    "list_presets",
    "merge_lora",
    "select_layers",
    "train_tokenizer",
    "trim_vocabulary",
]

# Public name -> its module. Add a new public name here, in `__all__` and in the block above.
_MODULES = {
    "BertZooError": "keras_bert_zoo.errors",
    "ByteBpeTokenizer": "keras_bert_zoo.text.byte_bpe.tokenizer",
    "Checkpoints": "keras_bert_zoo.training.checkpoints",
    "Encoder": "keras_bert_zoo.encoders.encoder",
    "EncoderConfig": "keras_bert_zoo.encoders.registry",
    "HeadedModel": "keras_bert_zoo.presets.headed_model",
    "MLflowTracker": "keras_bert_zoo.training.trackers",
    "MaskedLM": "keras_bert_zoo.tasks.masked_lm",
    "MultipleChoice": "keras_bert_zoo.tasks.multiple_choice",
    "NextSentence": "keras_bert_zoo.tasks.next_sentence",
    "OpenDomainQuestionAnswerer": "keras_bert_zoo.tasks.open_domain.question_answerer",
    "Pretrainer": "keras_bert_zoo.pretraining.pretrainer",
    "PretrainingData": "keras_bert_zoo.pretraining.dataset",
    "QuestionAnswerer": "keras_bert_zoo.tasks.question_answering.question_answerer",
    "RelationClassifier": "keras_bert_zoo.tasks.relation_classifier",
    "SentencePieceTokenizer": "keras_bert_zoo.text.sentencepiece.tokenizer",
    "TextClassifier": "keras_bert_zoo.tasks.text_classifier",
    "TextEmbedder": "keras_bert_zoo.tasks.embedding.text_embedder",
    "TextRegressor": "keras_bert_zoo.tasks.text_regressor",
    "Throughput": "keras_bert_zoo.training.throughput",
    "TokenClassifier": "keras_bert_zoo.tasks.token_classification.token_classifier",
    "Tokenizer": "keras_bert_zoo.text.tokenizer",
    "Tracker": "keras_bert_zoo.training.trackers",
    "Translator": "keras_bert_zoo.tasks.translation.translator",
    "WandbTracker": "keras_bert_zoo.training.trackers",
    "WordPieceTokenizer": "keras_bert_zoo.text.wordpiece.tokenizer",
    "add_lora": "keras_bert_zoo.adaptation.lora",
    "build_pretraining_data": "keras_bert_zoo.pretraining.build",
    "convert_checkpoint": "keras_bert_zoo.presets.convert",
    "distill": "keras_bert_zoo.training.distillation",
    "extend_positions": "keras_bert_zoo.adaptation.resize",
    "extend_vocabulary": "keras_bert_zoo.adaptation.vocabulary",
    "find_learning_rate": "keras_bert_zoo.training.rate_finder",
    "list_presets": "keras_bert_zoo.presets.catalog",
    "merge_lora": "keras_bert_zoo.adaptation.lora",
    "select_layers": "keras_bert_zoo.adaptation.layers",
    "train_tokenizer": "keras_bert_zoo.pretraining.vocabulary",
    "trim_vocabulary": "keras_bert_zoo.adaptation.trim",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name == "export":  # a package with functions for files that need no task
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # later uses skip this function
    return value


def __dir__() -> list[str]:
    """Lists the public names and the names that are already loaded."""
    return sorted(set(globals()) | set(__all__))


register_when_imported()
