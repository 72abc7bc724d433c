"""Registers the package's models with Keras, without importing Keras or the models.

`keras.models.load_model` looks a class up by its registered name. The decorators that register the
classes run when their modules are imported, which takes seconds. So a stand-in is registered for
each class, which imports the class when a file needs it. If Keras is not imported yet, an import
hook waits for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["CLASSES", "register_when_imported"]

_PACKAGE = "keras_bert_zoo"

CLASSES = {
    "config": "EncoderConfig",
    "encoders.albert": "AlbertConfig AlbertEncoder",
    "encoders.bert": "BertEncoder",
    "encoders.deberta_v2": "DebertaEmbeddings TokenConvolution DebertaBlock DebertaV2Encoder",
    "encoders.deberta_v2_config": "DebertaV2Config",
    "encoders.distilbert": "SinusoidalPositions DistilBertConfig DistilBertEncoder",
    "encoders.electra": "ElectraConfig ElectraEncoder",
    "encoders.encoder": "Encoder",
    "encoders.ernie": "ErnieConfig ErnieEmbeddings ErnieEncoder",
    "encoders.mobilebert": "MobileBertConfig MobileBertEncoder",
    "encoders.modernbert": "ModernBertEmbeddings LocalAndGlobal PredictionHead ModernBertEncoder",
    "encoders.modernbert_config": "ModernBertConfig",
    "encoders.mpnet": "MPNetConfig MPNetEncoder",
    "encoders.parts": "SharedContext",
    "encoders.roberta": (
        "RobertaConfig XLMRobertaConfig CamembertConfig "
        "RobertaEncoder XLMRobertaEncoder CamembertEncoder"
    ),
    "encoders.roformer": "RoFormerConfig RoFormerEncoder _Block",
    "heads.classifier": "ClassificationHead",
    "heads.decoder": "TransformerDecoder",
    "heads.embedder": "EmbeddingHead",
    "heads.global_pointer": "GlobalPointerHead",
    "heads.masked_lm": "MaskedLMHead",
    "heads.relation": "RelationHead",
    "heads.replaced_token": "ReplacedTokenHead",
    "heads.token_classifier": "TokenClassificationHead",
    "layers.attention": "SelfAttention",
    "layers.block": "Block",
    "layers.bottleneck_block": (
        "BottleneckBlock FeedForward _Bottleneck _UnusedBottleneck _Attention"
    ),
    "layers.choices": "ChoicesToRows RowsToChoices",
    "layers.crf": "ConditionalRandomField",
    "layers.cross_attention": "CrossAttention",
    "layers.decoder_block": "DecoderBlock",
    "layers.dense": "Dense",
    "layers.dropout": "Dropout",
    "layers.disentangled_attention": "RelativeDistances DisentangledSelfAttention",
    "layers.embeddings": "Embeddings",
    "layers.encoder_block": "EncoderBlock",
    "layers.initializers": "TruncatedNormal",
    "layers.normalization": "LayerNormalization NoNorm",
    "layers.pooler": "Pooler FirstToken LastToken",
    "layers.pre_norm_block": "FusedRotarySelfAttention GatedFeedForward PreNormBlock",
    "layers.relative_positions": "RelativePositionBias",
    "layers.rotary": "SinusoidTable RotarySelfAttention",
    "layers.token_layout": "TokenLayout TokensToBatch",
    "layers.trigram_embeddings": "TrigramEmbeddings",
    "layers.unused_weights": "UnusedWeights",
    "metrics.language_model": "LabelLoss MaskedAccuracy",
    "metrics.replaced_token": "ReplacedTokenAccuracy ReplacedTokenLoss",
    "presets.headed_model": "HeadedModel",
    "pretraining.pretrainer": "Pretrainer",
    "pretraining.replaced_tokens": "Generator",
    "tasks.embedding.index": "SearchHead DocumentSearch SemanticSearch",
    "tasks.embedding.text_embedder": "TextEmbedder",
    "tasks.masked_lm": "MaskedLM",
    "tasks.multiple_choice": "MultipleChoice",
    "tasks.next_sentence": "NextSentence",
    "tasks.open_domain.question_answerer": "OpenDomainQuestionAnswerer",
    "tasks.question_answering.question_answerer": "QuestionAnswerer",
    "tasks.relation_classifier": "RelationClassifier",
    "tasks.task": "Task",
    "tasks.text_classifier": "TextClassifier",
    "tasks.text_regressor": "TextRegressor",
    "tasks.token_classification.token_classifier": "TokenClassifier",
    "tasks.trainable": "TrainableTask",
    "tasks.translation.translator": "Translator",
    "training.contrastive": (
        "ContrastiveLoss MultipleNegativesRankingLoss CoSENTLoss "
        "CosineSimilarityLoss TripletLoss MatryoshkaLoss"
    ),
    "training.distillation": "DistillationLoss",
    "training.entity_targets": "GlobalPointerLoss",
    "training.keras_metrics": "OnLogits",
    "training.lamb": "Lamb",
    "training.objectives_loss": "ObjectivesLoss",
    "training.optimizers": "AdamW Adafactor Lion Muon",
    "training.outputs": "OneHotLoss ScoredLoss FunctionLoss",
    "training.question_answering": "SpanLoss",
    "training.replica_loss": "ReplicaLoss",
    "training.schedules": "WarmupDecay WarmupLinearDecay BudgetDecay",
    "training.token_loss": "SmoothedTokenLoss CrfLoss",
}
"""Module -> its classes that Keras' files may contain. A test compares it with the decorators."""


def register_when_imported() -> None:
    """Registers the classes now if Keras is imported, otherwise when it is."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _KerasFinder())


def _register() -> None:
    saving = importlib.import_module("keras.saving")
    registered = saving.get_custom_objects()
    for module, names in CLASSES.items():
        for name in names.split():
            registered.setdefault(f"{_PACKAGE}>{name}", _stand_in(name, f"{_PACKAGE}.{module}"))


def _stand_in(name: str, module: str) -> type:
    def from_config(config: dict[str, Any]) -> Any:
        importlib.import_module(f"{_PACKAGE}.encoders.registry")  # families and their configs
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})


class _KerasFinder(MetaPathFinder):
    """Calls `_register` after Keras is executed."""

    def __init__(self) -> None:
        self._busy = False

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Returns the spec of Keras, whose loader then registers the classes."""
        if name != "keras" or self._busy:
            return None
        self._busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._busy = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
