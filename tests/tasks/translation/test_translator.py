"""Translation: against transformers' encoder-decoders, in training, files and an export."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.parallel_text import read_parallel
from keras_bert_zoo.encoders.registry import build_encoder
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.export import verify
from keras_bert_zoo.export.signatures import build_serving_graph, weight_bytes
from keras_bert_zoo.files import SIDE_FILE
from keras_bert_zoo.heads.decoder import TransformerDecoder
from keras_bert_zoo.metrics.bleu import bleu_tokenizer, likeness, translation_report
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.text.spacing import natural_spacing
from keras_bert_zoo.text.trimming import trimmed_tokenizer
from keras_bert_zoo.training.token_loss import SmoothedTokenLoss
from tests.cli.conftest import refused as refused
from tests.cli.conftest import run as run
from tests.helpers import ASSETS, as_graphs

GOLDEN = ASSETS / "translator"
PAIRS = (["the cat", "a dog", "the dog sat", "a cat sat"] * 6, ["猫", "狗", "狗坐了", "猫坐了"] * 6)


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def translator(golden):
    return kbz.Translator.from_preset(GOLDEN, max_length=golden["max_length"])


# === Against transformers ===


def up_to_the_end(rows):
    """Rows of tokens without what is behind [SEP]: transformers may repeat it there."""
    return [[*map(int, row), 3][: [*row, 3].index(3)] for row in rows]


def test_searches_as_transformers_does(translator, golden):
    """tools/tasks/translator_goldens.py: greedy, beams, and length penalties."""
    assert (translator.num_beams, translator.length_penalty) == (3, 2.0)  # generation_config.json
    assert translator.max_target_length == 12
    inputs = translator.tokenizer(golden["texts"], max_length=translator.max_length)
    before = translator.options
    for search in golden["searches"]:
        translator.num_beams = search["num_beams"]
        translator.length_penalty = search["length_penalty"]
        found = translator.respond(inputs)
        assert up_to_the_end(found["ids"].numpy()) == up_to_the_end(search["ids"])
        if search["scores"] is not None:
            np.testing.assert_allclose(found["score"], search["scores"], rtol=1e-5, atol=1e-5)
        texts = translator.answers(found)["translation"].numpy()
        assert [text.decode().replace(" ", "") for text in texts] == [
            text.replace(" ", "") for text in search["texts"]
        ]
    translator.options = before


def test_logits_equal_transformers(translator, golden):
    inputs = translator.tokenizer(golden["texts"], max_length=translator.max_length)
    ids = np.array(golden["target_ids"], np.int32)
    mask = tf.constant((ids != 0).astype(np.int32))
    logits = translator({**inputs, "target_ids": tf.constant(ids), "target_mask": mask})
    wanted = np.array(golden["logits"])
    there = ids != 0
    # Each kind of processor rounds in its own way: 9.5e-5 apart on one without AVX-512.
    np.testing.assert_allclose(logits.numpy()[there], wanted[there], rtol=1e-5, atol=2e-4)


def test_a_step_at_a_time_gives_the_logits_of_the_whole(translator):
    decoder = translator.head
    states = np.random.default_rng(0).normal(size=(2, 3, decoder.memory_dim)).astype(np.float32)
    mask = np.array([[1, 1, 1], [1, 0, 0]], np.int32)
    ids = np.array([[2, 7, 9, 11], [2, 8, 8, 5]], np.int32)
    whole = decoder(states, mask, ids, np.ones_like(ids))
    memories, caches = decoder.remember(states, mask), decoder.no_tokens(2)
    for position in range(4):
        logits, caches = decoder.step(
            tf.constant(ids[:, position]), tf.constant(position), caches, memories
        )
        np.testing.assert_allclose(logits, whole[:, position], rtol=1e-5, atol=1e-5)


@pytest.mark.parity
def test_transformers_loads_what_is_saved(translator, golden, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    translator.save(tmp_path / "saved")
    model = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "saved").eval()
    inputs = translator.tokenizer(golden["texts"], max_length=translator.max_length)
    with torch.no_grad():
        found = model.generate(
            torch.tensor(inputs["token_ids"].numpy()),
            attention_mask=torch.tensor(inputs["padding_mask"].numpy()),
        )
    ids = translator.respond(inputs)["ids"].numpy()
    assert up_to_the_end(ids) == up_to_the_end(found.numpy()[:, 1:])


# === The start of a decoder ===


def test_a_new_decoder_starts_from_the_encoder():
    task = kbz.Translator.from_preset(ASSETS / "bert_gelu", decoder_layers=1, decoder_dropout=0.3)
    weights = {variable.path: variable.value.numpy() for variable in task.weights}
    for path in ("embeddings/token_table", "block_0/attention/query/kernel"):
        np.testing.assert_array_equal(weights[f"decoder/{path}"], weights[path])
    assert task.head.config.num_layers == 1
    assert task.head.config.dropout == 0.3
    assert task.encoder.config.dropout != 0.3
    assert "memory_projection" not in str(list(weights))


def test_a_trimmed_vocabulary_keeps_the_embeddings_and_the_ids_texts_need():
    target = kbz.WordPieceTokenizer(GOLDEN / "target_tokenizer" / "vocab.txt")
    texts = ["猫坐", "Tommy"]
    whole = kbz.Translator.from_preset(ASSETS / "bert_gelu", target=target)
    task = kbz.Translator.from_preset(ASSETS / "bert_gelu", target=target, target_texts=texts)
    small = task.target_tokenizer
    assert small.vocabulary == [*target.vocabulary[:5], "猫", "坐", "tom", "##my"]
    for text in texts:
        assert [small.id_to_token(i) for i in small.tokenize(text).numpy()] == [
            target.id_to_token(i) for i in target.tokenize(text).numpy()
        ]
    place = whole.tokenizer.vocabulary.index("[SEP]")
    source = whole.encoder.embeddings.token_table.numpy()
    for translator in (whole, task):
        index = translator.target_tokenizer.token_to_id("[SEP]")
        table = translator.head.embeddings.token_table.numpy()
        np.testing.assert_array_equal(table[index], source[place])
    with pytest.raises(ConfigError, match="Expected a WordPieceTokenizer, received a str"):
        trimmed_tokenizer("bert", texts)
    with pytest.raises(ConfigError, match="Expected a list of texts, received one string"):
        trimmed_tokenizer(target, "猫坐")


# === Training, files, export ===


def make_task(**options):
    keras.utils.set_random_seed(1)
    source = kbz.Tokenizer.from_preset(GOLDEN)
    target = kbz.Tokenizer.from_preset(GOLDEN / "target_tokenizer")
    configs = [
        kbz.EncoderConfig(
            vocabulary_size=tokenizer.vocabulary_size,
            hidden_dim=32,
            num_layers=1,
            num_heads=2,
            intermediate_dim=64,
            max_sequence_length=24,
            dropout=0.0,
            attention_dropout=0.0,
            initializer_range=0.2,  # training takes fewer steps
        )
        for tokenizer in (source, target)
    ]
    encoder = build_encoder(configs[0], pooler=False)
    decoder = TransformerDecoder(configs[1], memory_dim=32)
    return kbz.Translator(encoder, source, decoder, target, **{"num_beams": 2} | options)


@pytest.fixture(scope="module")
def trained():
    task = make_task(max_target_length=8)
    with as_graphs():
        task.fit(PAIRS, epochs=15, batch_size=24, learning_rate=1e-2, verbose=0)
    return task


def test_training_learns(trained):
    answers = trained.predict(PAIRS[0][:4])
    assert answers["translation"].tolist() == PAIRS[1][:4]
    assert answers["score"].shape == (4,)
    assert answers["score"].max() < 0
    assert trained.evaluate(PAIRS, verbose=0, return_dict=True)["accuracy"] > 0.99
    assert trained.evaluate(PAIRS[0], PAIRS[1], verbose=0, return_dict=True)["accuracy"] > 0.99
    assert trained.predict(PAIRS)["translation"].tolist() == PAIRS[1]  # pairs: the texts are asked
    assert trained.training_record["epochs"] == 15


def test_a_report_is_sacrebleus(trained):
    pytest.importorskip("sacrebleu")
    report = trained.report((PAIRS[0][:4], PAIRS[1][:4]))
    assert report.chrf == 100
    assert "tok:zh" in report.signature
    wrong = translation_report(["the cat sat on a mat"], ["the cat sat on the mat today"])
    assert 0 < wrong.bleu < 100
    assert wrong.brevity_penalty < 1
    assert "BLEU" in wrong.to_text()
    assert 0 < likeness("the cat", "the cats") < 100
    with pytest.raises(ConfigError, match="`tokenize` to be one of"):
        translation_report(["a"], ["a"], tokenize="mecab")


def test_bleu_is_cut_by_script():
    assert bleu_tokenizer(["我在用 python 。"]) == "zh"
    assert bleu_tokenizer(["今日は良い天気です"]) == "char"
    assert bleu_tokenizer(["Das ist gut.", "一"]) == "13a"
    assert bleu_tokenizer([]) == "13a"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_with_smoothed_labels(smoothing):
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 4, 7)).astype(np.float32)
    labels = np.array([[1, 2, -1, -1], [0, 6, 5, 4], [3, -1, -1, -1]], np.int32)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = np.full(logits.shape, smoothing / 7)
    rows, columns = np.nonzero(labels >= 0)
    wanted[rows, columns, labels[rows, columns]] += 1 - smoothing
    nats = -(wanted * np.log(probability)).sum(-1)[labels >= 0]
    loss = SmoothedTokenLoss(smoothing)(labels, logits)
    np.testing.assert_allclose(loss, nats.mean(), rtol=1e-5)


def test_a_saved_translator_answers_the_same(trained, tmp_path):
    expected = trained.predict(PAIRS[0][:4])
    trained.save(tmp_path / "saved")
    loaded = load_task(tmp_path / "saved")
    assert isinstance(loaded, kbz.Translator)
    assert loaded.training_record == trained.training_record
    for name in ("num_beams", "max_target_length", "label_smoothing", "max_length"):
        assert getattr(loaded, name) == getattr(trained, name)
    for name, values in expected.items():
        np.testing.assert_array_equal(loaded.predict(PAIRS[0][:4])[name], values)
    (tmp_path / "saved" / SIDE_FILE).unlink()  # as transformers writes it
    loaded = load_task(tmp_path / "saved")
    assert (loaded.num_beams, loaded.max_target_length) == (2, 8)
    np.testing.assert_array_equal(loaded.predict(PAIRS[0])["translation"], PAIRS[1])


def test_an_export_answers_the_same(trained, tmp_path):
    done = trained.export(tmp_path / "export")
    assert done.texts == len(verify.hostile_rows(trained))
    served = tf.saved_model.load(str(done.path)).signatures["serving_default"]
    texts = [*PAIRS[0][:4], "", "x" * 300, "the cat " * 60] * 10
    texts = texts[:64]
    together = served(text=tf.constant(texts))
    assert [text.decode() for text in together["translation"].numpy()[:4]] == PAIRS[1][:4]
    for index in range(0, 64, 9):
        alone = served(text=tf.constant(texts[index : index + 1]))
        assert alone["translation"][0] == together["translation"][index]
        np.testing.assert_allclose(alone["score"][0], together["score"][index], rtol=1e-5)
    assert served(text=tf.zeros([0], tf.string))["translation"].shape == (0,)


@pytest.mark.slow
def test_the_decoder_of_an_export_computes_in_its_dtype(golden):
    """Whatever dtype the task was loaded in."""
    answers = {}
    for policy in ("float32", "mixed_bfloat16"):
        task = kbz.Translator.from_preset(GOLDEN, dtype=policy, max_length=16, num_beams=1)
        graph = build_serving_graph(task, dtype="float32", freeze=True, attention_groups=1)
        answers[policy] = graph.signatures["serving_default"](tf.constant(golden["texts"]))
        # Tables of tokens are variables. A tied output product has a constant copy.
        (variables,) = graph.module.weights
        apart = sum(
            weight.dtype.size * weight.shape.num_elements() for weight in variables.values()
        )
        assert 0 < graph.weight_bytes - apart <= weight_bytes(task, "float32")
    first, second = (found["score"].numpy() for found in answers.values())
    np.testing.assert_allclose(first, second, rtol=1e-5)
    graph = build_serving_graph(task, dtype="bfloat16", freeze=False, attention_groups=1)
    assert graph.weight_bytes <= weight_bytes(task, "bfloat16")
    kernels = [w for name, w in graph.module.weights[0].items() if "decoder.block" in name]
    assert {weight.dtype for weight in kernels} >= {tf.bfloat16}


def test_weights_may_stay_variables(trained):
    graph = build_serving_graph(trained, dtype="float32", freeze=False, attention_groups=1)
    answers = graph.signatures["serving_default"](tf.constant(PAIRS[0][:4]))
    assert [text.decode() for text in answers["translation"].numpy()] == PAIRS[1][:4]


# === What is refused ===


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "`num_beams` to be an integer from 1 to 64, received 0"),
        (
            {"max_target_length": 500},
            "`max_target_length` to be an integer from 1 to 16, received 500",
        ),
        ({"length_penalty": "1"}, "`length_penalty` to be a number"),
        (
            {"length_penalty": float("nan")},
            "`length_penalty` to be a number from -2 to 10, received nan",
        ),
        (
            {"length_penalty": -8.0},
            "`length_penalty` to be a number from -2 to 10, received -8.0",
        ),
        ({"label_smoothing": 1.0}, "`label_smoothing` to be a number .* below 1, received 1.0"),
        ({"decoder_layers": 1}, "are for a new decoder"),
        ({"new_decoder": True}, "a whole translator"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ConfigError, match=message):
        kbz.Translator.from_preset(GOLDEN, **options)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    task = kbz.Translator.from_preset(GOLDEN)
    task.num_beams = 100
    with pytest.raises(
        ConfigError, match="`num_beams` to be an integer from 1 to 64, received 100"
    ):
        task.save(tmp_path / "saved")
    with pytest.raises(
        ConfigError, match="`num_beams` to be an integer from 1 to 64, received 100"
    ):
        task.predict(["a"])
    assert not (tmp_path / "saved").exists()


def test_refuses_what_is_no_translator():
    with pytest.raises(CheckpointError, match="has no decoder for Translator"):
        kbz.Translator.from_preset(ASSETS / "bert_gelu", new_decoder=False)
    with pytest.raises(ConfigError, match="Expected 1 to 2 decoder layers"):
        kbz.Translator.from_preset(ASSETS / "bert_gelu", decoder_layers=9)


def test_refuses_data_without_translations(translator):
    with pytest.raises(DataError, match="There are no translations"):
        translator.fit(["a"])
    with pytest.raises(DataError, match="There are no examples"):
        translator.fit(([], []))
    with pytest.raises(DataError, match="received both"):
        translator.evaluate((["a"], ["b"]), ["c"])


def damaged(change, folder: Path) -> Path:
    """The golden model with another config.json."""
    folder.mkdir()
    for file in GOLDEN.rglob("*"):
        if file.is_file() and file.name != "golden.json":
            target = folder / file.relative_to(GOLDEN)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.pop("decoder"), ConfigError, "Expected `decoder` to be an object"),
        (
            lambda c: c["decoder"].update(is_decoder=False),
            ConfigError,
            "Expected `is_decoder` to be true",
        ),
        (lambda c: c.update(tie_encoder_decoder=True), ConfigError, "shares the encoder's weights"),
        (lambda c: c["decoder"].update(model_type="roberta"), ConfigError, "roberta"),
        (
            lambda c: c["decoder"].update(num_hidden_layers=3),
            CheckpointError,
            "missing: decoder.bert.encoder.layer.2",
        ),
        (
            lambda c: c["decoder"].update(vocab_size=9),
            (CheckpointError, ConfigError),
            "vocab|shape",
        ),
    ],
)
def test_refuses_damaged_configs(change, error, message, tmp_path):
    with pytest.raises(error, match=message):
        kbz.Translator.load(damaged(change, tmp_path / "damaged"))


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ({"max_target_length": "x"}, "'max_target_length' must be an integer from 1"),
        ({"num_beams": True}, "'num_beams' must be an integer from 1"),
        ({"length_penalty": []}, "'length_penalty' must be a number"),
        ({"label_smoothing": "much"}, "'label_smoothing' must be a number from 0 to 1"),
    ],
)
def test_a_damaged_side_file_is_refused(side, message, tmp_path):
    folder = damaged(lambda config: None, tmp_path / "damaged")
    whole = {"task": "translation", "num_beams": 3, "max_target_length": 12, "pair": True}
    (folder / SIDE_FILE).write_text(json.dumps(whole))
    assert list(kbz.Translator.load(folder).text_specs()) == ["text"]  # whatever it says of pairs
    (folder / SIDE_FILE).write_text(json.dumps(whole | side))
    with pytest.raises(CheckpointError, match=message):
        kbz.Translator.load(folder)


def test_a_search_that_is_not_here_is_told(tmp_path, caplog):
    folder = damaged(lambda config: None, tmp_path / "damaged")
    path = folder / "generation_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"no_repeat_ngram_size": 3, "early_stopping": False}))
    kbz.Translator.load(folder)
    assert "(no_repeat_ngram_size=3)" in caplog.text
    path.write_text(json.dumps({k: v for k, v in said.items() if k != "num_beams"}))
    assert kbz.Translator.load(folder).num_beams == 1  # as transformers then searches
    path.write_text(json.dumps(said | {"decoder_start_token_id": 7}))
    with pytest.raises(
        ConfigError, match="expected `decoder_start_token_id` to be 2, .* received 7"
    ):
        kbz.Translator.load(folder)


def test_scoring_is_possible_before_anything_is_translated(translator, monkeypatch):
    monkeypatch.setattr(translator, "predict", None)
    monkeypatch.setattr(translator, "bleu_tokenizer", "mecab")
    with pytest.raises(ConfigError, match="`tokenize` to be one of"):
        translator.report(["a"], ["b"])
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(
        ConfigError, match="sacreBLEU to score translations, but it is not installed"
    ):
        translator.report(["a"], ["b"])


# === Reading ===


def test_reads_tables_and_two_files(tmp_path):
    table = tmp_path / "pairs.tsv"
    table.write_text("Hi.\t嗨。\nRun!\t跑！\n", encoding="utf-8")
    columns = ["text", "translation"]
    examples = read_parallel(str(table), columns=columns)
    assert (examples.texts, examples.text_pairs) == (["Hi.", "Run!"], ["嗨。", "跑！"])
    (tmp_path / "c.en").write_text("Hi.\r\n\nRun!\n", encoding="utf-8")
    (tmp_path / "c.zh").write_text("嗨。\n\n跑！\n", encoding="utf-8")
    examples = read_parallel(f"{tmp_path}/c.en,{tmp_path}/c.zh")
    assert (examples.texts, examples.text_pairs) == (["Hi.", "", "Run!"], ["嗨。", "", "跑！"])
    (tmp_path / "c.zh").write_text("嗨。\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.zh:3: expected 3 lines, as in .*c\.en, received 2"):
        read_parallel(f"{tmp_path}/c.en,{tmp_path}/c.zh")
    (tmp_path / "c.zh").write_bytes(b"\xff\n\n\n")
    with pytest.raises(DataError, match=r"c\.zh:1: byte 0xff"):
        read_parallel(f"{tmp_path}/c.en,{tmp_path}/c.zh")
    with pytest.raises(
        ConfigError, match="expected a table for the option `columns`, received two files"
    ):
        read_parallel(f"{tmp_path}/c.en,{tmp_path}/c.zh", columns=columns)
    table.write_text("Hi.\t嗨。\nRun!\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"pairs\.tsv:2: "):
        read_parallel(str(table), columns=columns)


def test_spaces_are_where_a_reader_expects_them():
    spaced = {
        "我 在 用 python 写 字 。": "我在用python写字。",
        "it ' s here , too .": "it's here, too.",
        "“ 你 好 ” 他 说 … … 好 — — 吗": "“你好”他说……好——吗",
        "he said “ hello ” to me …": "he said “ hello ” to me …",
        "it ’ s the dogs ’ tails": "it’s the dogs ’ tails",
        "a b": "a b",
        "": "",
    }
    found = natural_spacing(tf.constant(list(spaced))).numpy()
    assert [text.decode() for text in found] == list(spaced.values())


# === The command line ===


def test_the_command_line(run, refused, tmp_path):
    pytest.importorskip("sacrebleu")
    texts = Examples(*PAIRS)
    rows = [f"{a}\t{b}" for a, b in zip(texts.texts, texts.text_pairs, strict=True)]
    data = tmp_path / "pairs.tsv"
    data.write_text("\n".join(rows) + "\n", encoding="utf-8")
    columns = ("--columns", "text,translation")
    out = tmp_path / "model"
    finished = run(
        "train", "--task", "translation", "--preset", ASSETS / "bert_gelu", "--train", data,
        *columns, "--dev", data, "--epochs", 1, "--output", out, "--max-target-length", 8,
        "--target", GOLDEN / "target_tokenizer", "--decoder-layers", 1, "--dtype", "bfloat16",
    )  # fmt: skip
    assert finished.status == 0, finished
    assert "bleu" in finished.out
    wrong = tmp_path / "wrong.jsonl"
    finished = run(
        "evaluate", "--model", out, "--data", data, *columns, "--num-beams", 1,
        "--errors", wrong, "--html", tmp_path / "wrong.html",
    )  # fmt: skip
    assert finished.status == 0, finished
    assert "tok:zh" in finished.out
    assert {"text", "label", "predicted", "chrf", "row"} <= set(
        json.loads(wrong.read_text(encoding="utf-8").splitlines()[0])
    )
    (tmp_path / "in.txt").write_text("the cat\n\n", encoding="utf-8")
    finished = run("predict", "--model", out, "--input", tmp_path / "in.txt")
    assert [set(row) for row in finished.rows] == [{"text", "translation", "score"}] * 2
    message = refused(
        "train", "--task", "translation", "--preset", ASSETS / "bert_gelu",
        "--train", tmp_path / "none.tsv", *columns, "--output", tmp_path / "m2",
    )  # fmt: skip
    assert "there is no such file" in message
