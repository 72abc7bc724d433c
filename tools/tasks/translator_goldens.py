"""Writes tests/assets/translator: a tiny random EncoderDecoderModel and its translations.

Usage: python tools/tasks/translator_goldens.py    (needs torch and transformers)
"""

import json
from pathlib import Path

import torch
import transformers

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "assets" / "translator"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the a cat dog sat on mat play ##ing ##ed . , it was ' s".split()
TARGET_WORDS = "猫 狗 坐 在 垫 子 上 了 玩 。 tom ##my it ' s , . 的".split()
TEXTS = [
    "The cat sat on the mat.",
    "playing, it was",
    "dog",
    "",
    "the the unknown word",
    "a " * 40,
    "it's a dog",
    "The dog sat",
    "on the mat, a cat played.",
    "was it playing?",
]
SEARCHES = [(1, 1.0), (2, 1.0), (4, 1.0), (4, 0.0), (3, 2.0), (3, -1.0)]
MAX_LENGTH, MAX_NEW_TOKENS = 16, 12


def write_tokenizer(folder: Path, words: list[str]) -> transformers.BertTokenizerFast:
    """Saves a BERT tokenizer with these words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + words) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    return tokenizer


def config(size: int, width: int, **options) -> transformers.BertConfig:
    """The configuration of a tiny BERT."""
    return transformers.BertConfig(
        vocab_size=size,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.5,
        **options,
    )


def main() -> None:
    """Writes the model and golden.json."""
    torch.manual_seed(7)
    tokenizer = write_tokenizer(FOLDER, WORDS)
    target = write_tokenizer(FOLDER / "target_tokenizer", TARGET_WORDS)
    model = transformers.EncoderDecoderModel(
        encoder=transformers.BertModel(config(len(SPECIAL + WORDS), 16)),
        decoder=transformers.BertLMHeadModel(
            config(len(SPECIAL + TARGET_WORDS), 24, is_decoder=True, add_cross_attention=True)
        ),
    ).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # zeros would hide an unused bias
            weight.data.normal_(std=0.3)
    # No special tokens within a text, but an end of the text with some probability.
    model.decoder.cls.predictions.bias.data[torch.tensor([0, 1, 2, 4])] = -30
    model.decoder.bert.embeddings.position_embeddings.weight.data.mul_(3)  # fewer repetitions
    model.decoder.cls.predictions.bias.data[3] = 0.0
    model.decoder.cls.predictions.transform.LayerNorm.weight.data.mul_(0.4)  # closer scores
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=target.cls_token_id,
        eos_token_id=target.sep_token_id,
        pad_token_id=target.pad_token_id,
        num_beams=3,
        length_penalty=2.0,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    model.save_pretrained(FOLDER)
    inputs = tokenizer(
        TEXTS, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )
    golden = {"texts": TEXTS, "max_length": MAX_LENGTH, "searches": []}
    for num_beams, length_penalty in SEARCHES:
        outputs = model.generate(
            **inputs,
            num_beams=num_beams,
            length_penalty=length_penalty,
            return_dict_in_generate=True,
            output_scores=True,
        )
        scores = getattr(outputs, "sequences_scores", None)
        ids = outputs.sequences[:, 1:].tolist()
        golden["searches"].append(
            {
                "num_beams": num_beams,
                "length_penalty": length_penalty,
                "ids": ids,
                "scores": None if scores is None else scores.tolist(),
                "texts": target.batch_decode(ids, skip_special_tokens=True),
            }
        )
    target_ids = torch.tensor([[2, 5, 8, 9, 11, 7], [2, 6, 6, 10, 0, 0]]).repeat(5, 1)
    with torch.no_grad():
        golden["target_ids"] = target_ids.tolist()
        golden["logits"] = model(
            **inputs, decoder_input_ids=target_ids, decoder_attention_mask=(target_ids != 0).long()
        ).logits.tolist()
    with open(FOLDER / "golden.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False)
    for search in golden["searches"]:
        print(search["num_beams"], search["length_penalty"], search["scores"], search["texts"])


if __name__ == "__main__":
    main()
