"""What transformers' classes of WordPiece tokenizers take for granted: a table of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_bert_zoo.text.tokenizer_files import Packing

if TYPE_CHECKING:
    from keras_bert_zoo.text.wordpiece.tokenizer import WordPieceTokenizer


@dataclass(frozen=True)
class Kind:
    """What a tokenizer class of transformers takes for granted.

    Attributes:
        names: the named tokens.
        packing: Packing.
        trim_offsets: bool. See `WordPieceTokenizer`.
        mask_lstrip: bool. Whether the mask token takes the space before it.
    """

    names: Mapping[str, str]
    packing: Packing = Packing()  # noqa: RUF009
    trim_offsets: bool = False
    mask_lstrip: bool = False

    def fits(self, tokenizer: WordPieceTokenizer) -> bool:
        """Whether a tokenizer packs segments in this way."""
        return (Packing.of(tokenizer), tokenizer.trim_offsets) == (self.packing, self.trim_offsets)


BERT = Kind(
    {
        "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
)  # fmt: skip
MPNET = Kind(
    {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]", "cls_token": "<s>",
        "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>",
    },
    packing=Packing(separators_between=2, second_segment_id=0),
    trim_offsets=True,
    mask_lstrip=True,
)  # fmt: skip
FUNNEL = Kind(
    {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<cls>",
        "sep_token": "<sep>", "pad_token": "<pad>", "mask_token": "<mask>",
    },
    packing=Packing(cls_segment_id=2),
)  # fmt: skip
KINDS = {
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
# With these, transformers takes tokenizer.json as it is.
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Their files look like BERT's, but they do more than a WordPiece tokenizer does.
REFUSED = {
    "RoFormerTokenizer": (
        "it segments Chinese with jieba first, which no graph can; RoFormer's character-based "
        'checkpoints name "BertTokenizer" (write that if this is one); for the others, segment the '
        "texts beforehand"
    ),
    "BertJapaneseTokenizer": "it segments Japanese with MeCab and the like, which no graph can",
    "ProphetNetTokenizer": "it packs no [CLS] before a text",
    "RoCBertTokenizer": "it gives shapes and pronunciations beside the token ids",
    "SplinterTokenizer": "it packs a [QUESTION] token behind the question",
    "TapasTokenizer": "it takes tables, not texts",
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
