"""The readers of the package, each with a small valid input. None builds a model."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from keras_bert_zoo.checkpoints import safetensors as safetensors_files
from keras_bert_zoo.checkpoints import transformers_h5 as keras_h5
from keras_bert_zoo.checkpoints.config_file import read_config
from keras_bert_zoo.checkpoints.formats import open_checkpoint
from keras_bert_zoo.checkpoints.google import tf1 as google_tf1
from keras_bert_zoo.checkpoints.keras_hub import config as keras_hub_config
from keras_bert_zoo.checkpoints.keras_hub import reader as keras_hub
from keras_bert_zoo.checkpoints.keras_hub import tokenizers as keras_hub_tokenizers
from keras_bert_zoo.checkpoints.pytorch import bin as pytorch_bin
from keras_bert_zoo.checkpoints.source import TensorSource
from keras_bert_zoo.cli import options, train
from keras_bert_zoo.config import EncoderConfig
from keras_bert_zoo.data.choices import read_choices
from keras_bert_zoo.data.conll import read_conll
from keras_bert_zoo.data.document_file import read_documents, write_documents
from keras_bert_zoo.data.documents import read_sentence_pairs
from keras_bert_zoo.data.entity_files import read_entities
from keras_bert_zoo.data.pairs import read_groups
from keras_bert_zoo.data.parallel_text import read_parallel
from keras_bert_zoo.data.passages import Passages
from keras_bert_zoo.data.semeval import read_semeval
from keras_bert_zoo.data.squad import read_contexts, read_squad
from keras_bert_zoo.data.tables import read_table, read_table_in_parts
from keras_bert_zoo.presets.encoder_decoder import (
    generation_options,
)
from keras_bert_zoo.presets.encoder_decoder import (
    read_configs as read_translator_configs,
)
from keras_bert_zoo.presets.extra_weights import load_extra_weights
from keras_bert_zoo.presets.labels import architectures_of
from keras_bert_zoo.presets.sentence_transformers import read_modules
from keras_bert_zoo.tasks.files import read_side_file, saved_task_name
from keras_bert_zoo.tasks.open_domain.files import load_passages, save_passages
from keras_bert_zoo.text.byte_bpe import files as byte_bpe_files
from keras_bert_zoo.text.registry import load_tokenizer_directory, tokenizer_kind
from keras_bert_zoo.text.sentencepiece import files as sentencepiece_files
from keras_bert_zoo.text.wordpiece import files as wordpiece_files
from tests.text.sentencepiece.test_files import make_directory

ASSETS = Path(__file__).resolve().parents[2] / "tests" / "assets"


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        name: str.
        make: writes a valid input into an empty directory.
        read: reads that directory.
        files: pattern of the files to damage.
        pipes: whether a pipe may replace a file. Data readers accept pipes and would wait for them.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: str = "*"
    pipes: bool = True


def copied(*names: str) -> Callable[[Path], None]:
    """Copies files or folders of tests/assets."""

    def make(folder: Path) -> None:
        for name in names:
            source = ASSETS / name
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True)
            else:
                shutil.copy(source, folder / source.name)
        for path in [*folder.rglob("golden.*"), *folder.rglob("expected*"), folder / "LICENSE"]:
            path.unlink(missing_ok=True)

    return make


def written(**files: str | bytes) -> Callable[[Path], None]:
    """Writes files; `__` in a name is a dot."""

    def make(folder: Path) -> None:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (folder / name.replace("__", ".")).write_bytes(data)

    return make


def read_all(source: TensorSource) -> None:
    with source:
        for name in source.names():
            source.shape(name)
            source.dtype(name)
            source.read(name)


# === Checkpoints ===


def make_shards(folder: Path) -> None:
    shards = {}
    for i in range(2):
        tensors = {f"layer.{i}.weight": np.ones((3, 4), np.float32), f"layer.{i}.b": np.ones(3)}
        name = f"model-{i + 1:05}-of-00002.safetensors"
        save_file(tensors, folder / name)
        shards |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 144}, "weight_map": shards}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def read_google(folder: Path) -> None:
    read_all(google_tf1.open_google(folder))


def read_encoder_config(folder: Path) -> None:
    raw = read_config(folder)
    EncoderConfig.from_huggingface(raw)
    architectures_of(raw)
    saved_task_name(folder, raw)


def make_configs(folder: Path) -> None:
    """Copies a config of every family, each into a separate folder."""
    for path in sorted((ASSETS / "zoo").glob("*-encoder-*/config.json")):
        (folder / path.parent.name).mkdir()
        shutil.copy(path, folder / path.parent.name)


def read_configs(folder: Path) -> None:
    """Reads the damaged configs."""
    for path in sorted(folder.iterdir()):
        config = path / "config.json"
        original = (ASSETS / "zoo" / path.name / "config.json").read_bytes()
        if (
            not config.is_file()
            or config.stat().st_size != len(original)
            or config.read_bytes() != original
        ):
            read_encoder_config(path)


def read_keras_hub(folder: Path) -> None:
    read_config(folder)
    read_all(keras_hub.open_keras_hub(folder))


def read_keras_hub_tokenizer(folder: Path) -> None:
    out = folder / ".out"
    out.mkdir(exist_ok=True)
    keras_hub_config.read_keras_hub_config(folder)
    keras_hub_tokenizers.find_pad_token_id(folder)
    keras_hub_tokenizers.materialise_tokenizer(folder, out)


# === Tokenizers ===

_DIRECTORIES = {
    "WordPiece": wordpiece_files.read_directory,
    "byte-level BPE": byte_bpe_files.read_directory,
    "SentencePiece": sentencepiece_files.read_directory,
}


def read_tokenizer(folder: Path) -> None:
    _DIRECTORIES[tokenizer_kind(folder)](folder)


def make_byte_bpe(folder: Path) -> None:
    from keras_bert_zoo.text.byte_bpe.model import byte_by_character

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = [("a", "b"), ("ab", "c"), ("Ġ", "a"), ("'", "l")]
    vocabulary = [*special, *byte_by_character(), *map("".join, merges)]
    ids = {token: i for i, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 64, "mask_token": "<mask>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_fast_byte_bpe(folder: Path) -> None:
    make_byte_bpe(folder)
    load_tokenizer_directory(folder).save(folder)


def make_sentencepiece(folder: Path) -> None:
    make_directory(folder, "AlbertTokenizer")


def make_fast_sentencepiece(folder: Path) -> None:
    make_directory(folder, "XLMRobertaTokenizer")
    load_tokenizer_directory(folder).save(folder)


def make_wordpiece(folder: Path) -> None:
    copied("masked_lm/vocab.txt", "masked_lm/tokenizer_config.json")(folder)
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    (folder / "added_tokens.json").write_text("{}")


# === Files of tasks ===


class _Layer:
    """A fake Keras layer for `load_extra_weights`."""

    class _Variable:
        name, shape = "kernel", (2, 3)

        def assign(self, value: Any) -> None:
            np.asarray(value, np.float32).reshape(self.shape)

    weights = (_Variable(),)


def make_own_weights(folder: Path) -> None:
    save_file({"crf.kernel": np.ones((2, 3), np.float32)}, folder / "keras_bert_zoo.safetensors")


def read_sentence_modules(folder: Path) -> None:
    modules = read_modules(folder)
    if modules is not None:
        repr(modules)


class _Tokenizer:
    """A fake tokenizer of translations."""

    cls_token_id, sep_token_id, pad_token_id = 2, 3, 0

    def id_to_token(self, token_id: int) -> str:
        return f"[{token_id}]"


def read_translator(folder: Path) -> None:
    raw = read_config(folder)
    read_translator_configs(raw, frozenset())
    generation_options(folder, raw, _Tokenizer())  # type: ignore[arg-type]


def make_side_file(folder: Path) -> None:
    side = {
        "task": "classification", "max_length": 64, "pair": False, "thresholds": [0.5, 0.25],
        "training": {"epochs": 3, "loss": [0.5, 0.25], "seed": 0},
    }  # fmt: skip
    (folder / "keras_bert_zoo.json").write_text(json.dumps(side, indent=2))


def make_collection(folder: Path) -> None:
    documents = [b"Ada in Paris.", "天气 \xff".encode()]
    write_documents(folder, documents)
    places = {
        "document_id": [0, 0, 1],
        "start": [0, 4, 0],
        "end": [3, 12, 4],
        "start_character": [0, 4, 0],
    }
    columns = {name: np.array(values, np.int32) for name, values in places.items()}
    save_passages(folder, Passages(**columns, vectors=np.ones((3, 4), np.float32)))


def read_collection(folder: Path) -> None:
    load_passages(folder, read_documents(folder))


# === Data ===

TABLE = 'text,label,pair\n"a ""card""",red,x\nb,blue,"two\nlines"\n天气,red,z\n'
ROWS = [
    {"text": "a card", "label": "red", "pair": "x", "choices": ["p", "q"], "score": 0.5},
    {"text": "天气", "label": "blue", "pair": "y", "choices": ["r", "s"], "score": 1},
]
QUESTIONS = {
    "version": "v2.0",
    "data": [
        {
            "title": "Ada",
            "paragraphs": [
                {
                    "context": "Ada in Paris. 天气",
                    "qas": [
                        {
                            "id": "1",
                            "question": "Where?",
                            "is_impossible": False,
                            "answers": [{"text": "Paris", "answer_start": 7}],
                        },
                        {"id": "2", "question": "Who?", "is_impossible": True, "answers": []},
                    ],
                }
            ],
        }
    ],
}
CONLL = "-DOCSTART- -X- O O\n\nAda NNP B-PER\nin IN O\nParis NNP B-LOC\n. . O\n\n天气 NN O\n"
SEMEVAL = (
    '1\t"The <e1>crew</e1> of a <e2>ship</e2>."\nMember-Collection(e1,e2)\nComment: none\n\n'
    '2\t"A <e1>b</e1> c <e2>d</e2>."\nOther\nComment:\n\n'
)
ENTITIES = (
    '{"text": "Ada in Paris", "entities": [{"start": 0, "end": 3, "label": "PER"}]}\n'
    '{"text": "天气", "entities": [[0, 2, "X"]]}\n'
)
ENTITY_LIST = "[\n" + ENTITIES.strip().replace("\n", ",\n") + "\n]\n"
TOKENS = (
    '{"tokens": ["Zo\xeb", "in", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"]}\n'
    '{"tokens": ["a"], "ner_tags": ["O"]}\n'
)
DOCUMENTS = "One sentence.\nAnother one.\n\n天气。\nA third.\nA fourth.\n"
JSON_LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read_csv(folder: Path) -> None:
    path = folder / "data.csv"
    read_table(path, text_pair="pair")
    for _ in read_table_in_parts(path, label=None, rows_at_once=2):
        pass


def read_several(folder: Path) -> None:
    read_table(folder / "data.jsonl", label_kind="multi")


def command_line() -> options.Parser:
    """The parser of `train`, for --config."""
    parser = options.Parser()
    train.add_arguments(parser)
    train.add_task_options(parser, [])
    return parser


def configured(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        argv = ["--config", str(folder / name)]
        options.peek(argv, "task")
        options.parse(command_line(), argv)

    return read


_MODEL_FILES = [
    Reader(
        "safetensors",
        copied("pytorch_zip/expected.safetensors", "bert_gelu/model.safetensors"),
        lambda folder: read_all(safetensors_files.open_safetensors(folder / "model.safetensors")),
    ),
    Reader("shards", make_shards, lambda folder: read_all(open_checkpoint(folder))),
    Reader(
        "pytorch_zip",
        copied("pytorch_zip"),
        lambda folder: read_all(pytorch_bin.open_pytorch_bin(folder / "pytorch_model.bin")),
    ),
    Reader(
        "pytorch_legacy",
        copied("pytorch_legacy"),
        lambda folder: read_all(pytorch_bin.open_pytorch_bin(folder / "pytorch_model.bin")),
    ),
    Reader(
        "keras_h5",
        copied("keras_h5_albert/tf_model.h5"),
        lambda folder: read_all(keras_h5.open_keras_h5(folder / "tf_model.h5")),
    ),
    Reader("keras_hub", copied("keras_hub_bert"), read_keras_hub),
    Reader("keras_hub_tokenizer", copied("keras_hub_bert"), read_keras_hub_tokenizer, "*.[tj]*"),
    Reader(
        "google", copied("google_bert"), lambda folder: read_all(google_tf1.open_google(folder))
    ),
    Reader("google_config", copied("google_albert"), read_encoder_config),
    Reader("config", make_configs, read_configs),
    Reader("wordpiece", make_wordpiece, read_tokenizer),
    Reader("wordpiece_fast", copied("masked_lm"), read_tokenizer, "tokenizer*"),
    Reader("byte_bpe", make_byte_bpe, read_tokenizer),
    Reader("byte_bpe_fast", make_fast_byte_bpe, read_tokenizer),
    Reader("sentencepiece", make_sentencepiece, read_tokenizer),
    Reader("sentencepiece_fast", make_fast_sentencepiece, read_tokenizer),
    Reader("modules", copied("sentence_transformers/cls_dense"), read_sentence_modules, "*.json"),
    Reader("translator", copied("translator"), read_translator, "*config.json"),
    Reader("side_file", make_side_file, read_side_file),
    Reader(
        "own_weights",
        make_own_weights,
        lambda folder: load_extra_weights(folder, {"crf": _Layer()}),  # type: ignore[dict-item]
    ),
    Reader("collection", make_collection, read_collection),
]

_DATA = [
    Reader("csv", written(data__csv=TABLE), read_csv),
    Reader(
        "tsv",
        written(data__tsv='text\tlabel\na "card"\tred\n天气\tblue\nb, c\tred\n'),
        lambda folder: read_table(folder / "data.tsv"),
    ),
    Reader(
        "csv_gz",
        lambda folder: (folder / "data.csv.gz").write_bytes(gzip.compress(TABLE.encode())),
        lambda folder: read_table(folder / "data.csv.gz"),
    ),
    Reader("jsonl", written(data__jsonl=JSON_LINES), read_several),
    Reader("conll", written(data__conll=CONLL), lambda folder: read_conll(folder / "data.conll")),
    Reader(
        "entities",
        written(data__jsonl=ENTITIES),
        lambda folder: read_entities(folder / "data.jsonl"),
    ),
    Reader(
        "entities_json",
        written(data__json=ENTITY_LIST),
        lambda folder: read_entities(folder / "data.json"),
    ),
    Reader(
        "entities_utf16",
        written(data__json=ENTITY_LIST.encode("utf-16")),
        lambda folder: read_entities(folder / "data.json", encoding="utf-16"),
    ),
    Reader(
        "entities_gz",
        lambda folder: (folder / "data.json.gz").write_bytes(gzip.compress(ENTITY_LIST.encode())),
        lambda folder: read_entities(folder / "data.json.gz"),
    ),
    Reader(
        "tokens",
        written(data__jsonl=TOKENS.encode("latin-1")),
        lambda folder: read_entities(folder / "data.jsonl", encoding="latin-1"),
    ),
    Reader(
        "tsv_utf16",
        written(data__tsv="text\tlabel\n天气\t['a', 'b']\nb\tset()\n".encode("utf-16")),
        lambda folder: read_table(folder / "data.tsv", label_kind="multi", encoding="utf-16"),
    ),
    Reader(
        "squad",
        written(data__json=json.dumps(QUESTIONS, ensure_ascii=False)),
        lambda folder: (read_squad(folder / "data.json"), read_contexts(folder / "data.json")),
    ),
    Reader("semeval", written(data__txt=SEMEVAL), lambda folder: read_semeval(folder / "data.txt")),
    Reader(
        "choices",
        written(data__jsonl=JSON_LINES.replace("red", "1").replace("blue", "0")),
        lambda folder: read_choices(folder / "data.jsonl"),
    ),
    Reader(
        "groups",
        written(data__csv=TABLE.replace("red", "1").replace("blue", "0.5")),
        lambda folder: read_groups(folder / "data.csv", ["text", "pair"], score="label"),
    ),
    Reader(
        "parallel",
        written(data__en="a\nb\nc\n", data__zh="天\n气\n好\n"),
        lambda folder: read_parallel(f"{folder}/data.en,{folder}/data.zh"),
    ),
    Reader(
        "documents",
        written(data__txt=DOCUMENTS),
        lambda folder: read_sentence_pairs(folder / "data.txt"),
    ),
]

_OPTIONS = [
    Reader(
        "config_toml",
        written(train__toml='preset = "a"\ntrain = "t"\noutput = "o"\nepochs = 3\nseed = 1\n'),
        configured("train.toml"),
    ),
    Reader(
        "config_json",
        written(train__json='{"preset": "a", "train": "t", "output": "o", "learning-rate": 0.1}'),
        configured("train.json"),
    ),
]

READERS = [
    *_MODEL_FILES,
    *(dataclasses.replace(reader, pipes=False) for reader in _DATA),
    *_OPTIONS,
]
