"""Writes tests/assets/masked_lm: a tiny random BertForMaskedLM and its outputs.

Usage: python tools/tasks/lm_goldens.py    (needs torch and transformers)
"""

import json
import math
from pathlib import Path

import torch
import transformers

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "assets" / "masked_lm"
WORDS = "the a cat dog sat on mat play ##ing ##ed . , it was 天 气 café"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
MASKED = [
    "the cat [MASK] on the [MASK] .",
    "Play[MASK] it ",
    "天[MASK]气,  was",
    "[MASK] [MASK][MASK]",
    "café it [MASK]",
]
TEXTS = ["The cat sat on the mat.", "playing it was", "天气", "dog", "the the unknown word"]
TOP_K = 5


def main() -> None:
    """Writes the model and golden.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    (FOLDER / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(FOLDER / "vocab.txt"), strip_accents=False)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY) + 2,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    model = transformers.BertForMaskedLM(config).eval()
    model.cls.predictions.bias.data.normal_(std=0.5)
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)
    pipeline = transformers.FillMaskPipeline(model=model, tokenizer=tokenizer, top_k=TOP_K)
    filled = []
    for text in MASKED:
        masks = pipeline(text)
        masks = masks if isinstance(masks[0], list) else [masks]
        filled.append([
            {
                "token_id": [candidate["token"] for candidate in mask],
                "token": [candidate["token_str"] for candidate in mask],
                "score": [candidate["score"] for candidate in mask],
            }
            for mask in masks
        ])  # fmt: skip
    golden = {
        "masked": MASKED,
        "filled": filled,
        "texts": TEXTS,
        "pseudo_log_likelihood": [log_likelihood(model, tokenizer, text) for text in TEXTS],
    }
    with open(FOLDER / "golden.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, indent=1)


@torch.no_grad()
def log_likelihood(model, tokenizer, text: str) -> float:
    """The pseudo-log-likelihood: masks one token at a time."""
    encoded = tokenizer(text, return_tensors="pt")
    ids = encoded["input_ids"]
    sums = []
    for column in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        masked[0, column] = tokenizer.mask_token_id
        logits = model(**{**encoded, "input_ids": masked}).logits[0, column].double()
        sums.append(logits.log_softmax(-1)[ids[0, column]].item())
    return math.fsum(sums)


if __name__ == "__main__":
    main()
