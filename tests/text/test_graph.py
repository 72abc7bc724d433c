"""The tokenizer inside SavedModels and LiteRT models."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_text.core.pybinds import tflite_registrar

from keras_bert_zoo.text.sentencepiece.tokenizer import SentencePieceTokenizer
from tests.text.sentencepiece.test_tokenizer import OPTIONS, PIECES, SPECIAL_TEXTS

TEXTS = [
    "Hello, Wörld! unaffable", "", "[MASK] 中文[SEP]", "한국어 é\u0301\u00ad x",
    "x" * 101 + " y", "\0 \u200d",
]  # fmt: skip
# The ops of stock TF Serving 2.20, outside of core TensorFlow, that the tokenizer may use.
TF_TEXT_OPS = {
    "FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "TFText>ByteSplitByOffsets",
    "TFText>ByteSplitWithOffsets",
}  # fmt: skip


class Model(tf.Module):
    """A model that only tokenizes."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def packed(self, texts):
        return self.tokenizer(texts, max_length=16)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    def pairs(self, first, second):
        return self.tokenizer((first, second), max_length=16, padding="max_length")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def windows(self, texts):
        return self.tokenizer.windows(texts, max_length=8, stride=2)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def text(self, texts):
        return {"text": self.tokenizer.detokenize(self.tokenizer.tokenize(texts))}


@pytest.fixture(scope="module")
def export(uncased, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("export"))
    model = Model(uncased)
    names = ("packed", "pairs", "windows", "text")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})
    return path


@pytest.fixture(scope="module")
def sentencepiece():
    return SentencePieceTokenizer(PIECES, **OPTIONS["xlm-roberta"])


@pytest.fixture(scope="module")
def answers(export, sentencepiece, tmp_path_factory):
    """The results of both tokenizers in a process without this package."""
    folder = tmp_path_factory.mktemp("answers")
    model = Model(sentencepiece)
    tf.saved_model.save(model, str(folder / "sentencepiece"), signatures=model.packed)
    np.save(folder / "texts.npy", np.array([text.encode() for text in TEXTS], object))
    np.save(folder / "special.npy", np.array([text.encode() for text in SPECIAL_TEXTS], object))
    script = textwrap.dedent("""
        import sys
        import numpy as np
        import tensorflow as tf
        import tensorflow_text
        export, folder = sys.argv[1:]
        def texts(name):
            return tf.constant(np.load(f"{folder}/{name}.npy", allow_pickle=True).tolist())
        model = tf.saved_model.load(export)
        results = model.signatures["packed"](texts=texts("texts"))
        windows = model.signatures["windows"](texts=texts("texts"))
        results |= {f"w_{k}": v for k, v in windows.items()}
        results["text"] = model.signatures["text"](texts=texts("texts"))["text"]
        model = tf.saved_model.load(f"{folder}/sentencepiece")
        packed = model.signatures["serving_default"](texts=texts("special"))
        results |= {f"s_{k}": v for k, v in packed.items()}
        assert "keras_bert_zoo" not in sys.modules
        np.savez(f"{folder}/results.npz", **{
            k: v.numpy().astype("S") if v.dtype == tf.string else v.numpy()
            for k, v in results.items()
        })
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, export, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "results.npz") as results:
        return dict(results)


def test_saved_model_answers_without_this_package(uncased, answers):
    for key, value in uncased(TEXTS, max_length=16).items():
        np.testing.assert_array_equal(answers[key], value.numpy())
    for key, value in uncased.windows(TEXTS, max_length=8, stride=2).items():
        np.testing.assert_array_equal(answers[f"w_{key}"], value.numpy())
    texts = uncased.detokenize(uncased.tokenize(TEXTS)).numpy()
    np.testing.assert_array_equal(answers["text"], texts.astype("S"))


def test_sentencepiece_in_a_saved_model_answers_without_this_package(sentencepiece, answers):
    expected = sentencepiece(SPECIAL_TEXTS, max_length=16)
    assert {name for name in answers if name.startswith("s_")} == {f"s_{name}" for name in expected}
    for name, value in expected.items():
        np.testing.assert_array_equal(answers[f"s_{name}"], value.numpy())


def test_saved_model_contains_only_ops_of_tf_serving(export):
    model = saved_model_pb2.SavedModel()
    with open(f"{export}/saved_model.pb", "rb") as file:
        model.ParseFromString(file.read())
    graph = model.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    ops = {node.op for node in nodes}
    assert ops & TF_TEXT_OPS == TF_TEXT_OPS
    assert not {op for op in ops if "PyFunc" in op or "HashTable" in op or "Assert" in op}
    core = set(tf.raw_ops.__dict__)
    assert {op for op in ops - TF_TEXT_OPS if op not in core} == set()


def test_pairs_in_a_saved_model(uncased, export):
    first, second = ["the cat", "[MASK]"], ["sat " * 20, ""]
    packed = tf.saved_model.load(export).signatures["pairs"](
        first=tf.constant(first), second=tf.constant(second)
    )
    expected = uncased((first, second), max_length=16, padding="max_length")
    for key, value in expected.items():
        np.testing.assert_array_equal(packed[key].numpy(), value.numpy())


def interpreter(model, *functions):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function() for function in functions], model
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # no Flex
    converter.allow_custom_ops = True
    from tensorflow.lite.python.interpreter import InterpreterWithCustomOps

    return InterpreterWithCustomOps(
        model_content=converter.convert(),
        custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS,
    )


# tf.lite's interpreter always logs this warning; LiteRT's interpreter is an extra.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_litert(uncased):
    model = Model(uncased)
    functions = {"packed": model.packed, "windows": model.windows}
    converted = interpreter(model, *functions.values())
    for name, function in functions.items():
        lite = converted.get_signature_runner(name)
        for texts in (
            TEXTS,
            ["plain text"],
            ["[MASK]"],
            [""],
            ["a", "[CLS]b"],
            ["y" * 101 + "[PAD]"],
        ):
            packed = lite(texts=np.array([text.encode() for text in texts], object))
            expected = function(tf.constant(texts))
            assert packed.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(packed[key], value.numpy(), err_msg=key)


def test_tf_data(uncased):
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2).map(lambda t: uncased(t, padding=4))
    rows = [row for batch in data for row in batch["token_ids"].numpy()]
    expected = uncased(TEXTS)["token_ids"].numpy()
    for row, expected_row in zip(rows, expected, strict=True):
        length = min(len(row), len(expected_row))
        np.testing.assert_array_equal(row[:length], expected_row[:length])


def test_inside_a_function_that_is_traced_first(vocabulary_file):
    """Constants that are created in a trace can be used after it."""
    from keras_bert_zoo.text import WordPieceTokenizer

    tokenizers = []

    @tf.function
    def first(texts):
        tokenizers.append(WordPieceTokenizer(vocabulary_file))
        return tokenizers[0].tokenize(texts)

    expected = first(tf.constant(["hello"])).to_list()
    assert tokenizers[0].tokenize(["hello"]).to_list() == expected
