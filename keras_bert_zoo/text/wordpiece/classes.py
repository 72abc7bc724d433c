"""Defaults of transformers' WordPiece tokenizer classes: a table of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keras_bert_zoo.text.options import Packing
from keras_bert_zoo.text.wordpiece.options import WordPieceOptions


@dataclass(frozen=True)
class ClassDefaults:
    """Defaults of a tokenizer class of transformers.

    Attributes:
        names: the special tokens by name.
        packing: Packing.
        trim_offsets: bool. See `WordPieceOptions`.
        mask_lstrip: bool. Whether the mask token takes the whitespace before it.
    """

    names: Mapping[str, str]
    packing: Packing = field(default_factory=Packing)
    trim_offsets: bool = False
    mask_lstrip: bool = False

    def match(self, options: WordPieceOptions) -> bool:
        """Returns whether a tokenizer packs segments in this way."""
        return (options.packing, options.trim_offsets) == (self.packing, self.trim_offsets)


BERT = ClassDefaults(
    {
        "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
)  # fmt: skip
MPNET = ClassDefaults(
    {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]", "cls_token": "<s>",
        "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>",
    },
    packing=Packing(separators_between=2, second_segment_id=0),
    trim_offsets=True,
    mask_lstrip=True,
)  # fmt: skip
FUNNEL = ClassDefaults(
    {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<cls>",
        "sep_token": "<sep>", "pad_token": "<pad>", "mask_token": "<mask>",
    },
    packing=Packing(cls_segment_id=2),
)  # fmt: skip
CLASSES = {
    **dict.fromkeys(
        (
            "BertTokenizer", "ConvBertTokenizer", "DistilBertTokenizer",
            "DPRContextEncoderTokenizer", "DPRQuestionEncoderTokenizer", "ElectraTokenizer",
            "ErnieTokenizer", "LayoutLMTokenizer", "LxmertTokenizer", "MegatronBertTokenizer",
            "MobileBertTokenizer", "NezhaTokenizer", "RetriBertTokenizer", "SqueezeBertTokenizer",
        ),
        BERT,
    ),
    "FunnelTokenizer": FUNNEL,
    "MPNetTokenizer": MPNET,
}  # fmt: skip
# For these, transformers uses tokenizer.json without changes.
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Their files look like BERT's, but these classes do more than WordPiece.
REFUSED = {
    "RoFormerTokenizer": (
        "it segments Chinese with jieba first, which a graph cannot do. Segment the texts first, "
        'or set "BertTokenizer" for a character-based checkpoint'
    ),
    "BertJapaneseTokenizer": "it segments Japanese with MeCab, which a graph cannot do",
    "ProphetNetTokenizer": "it packs no [CLS] before a text",
    "RoCBertTokenizer": "it returns shape and pronunciation ids in addition to token ids",
    "SplinterTokenizer": "it packs a [QUESTION] token after the question",
    "TapasTokenizer": "it takes tables instead of texts",
}
BY_MODEL_TYPE = {
    **dict.fromkeys(
        (
            "bert", "convbert", "distilbert", "electra", "ernie", "layoutlm", "lxmert",
            "megatron-bert", "mobilebert", "nezha", "nomic_bert", "retribert", "squeezebert",
        ),
        "BertTokenizer",
    ),
    "dpr": "DPRQuestionEncoderTokenizer",
    "funnel": "FunnelTokenizer",
    "mpnet": "MPNetTokenizer",
    "prophetnet": "ProphetNetTokenizer",
    "roc_bert": "RoCBertTokenizer",
    "roformer": "RoFormerTokenizer",
    "splinter": "SplinterTokenizer",
    "tapas": "TapasTokenizer",
}  # fmt: skip
