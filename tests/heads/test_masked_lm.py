"""The masked-language-model head: masked positions, widths, options."""

import keras
import numpy as np
import pytest

import keras_bert_zoo as kbz
from keras_bert_zoo.encoders.encoder import encoder_inputs
from keras_bert_zoo.errors import ConfigError
from keras_bert_zoo.heads.masked_lm import MaskedLMHead
from keras_bert_zoo.layers.token_layout import TokenLayout
from tests.helpers import ASSETS, golden_inputs, load_golden, random_inputs

PRETRAINED = "bert-masked_lm+next_sentence-relu"


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_positions_give_the_logits_there(layout):
    model = kbz.HeadedModel.from_preset(
        ASSETS / "zoo" / PRETRAINED, "masked_lm", token_layout=layout
    )
    inputs, x, tokens = model.encoder.token_outputs()
    columns = keras.Input((None,), dtype="int32", name="positions")
    some = keras.Model([inputs, columns], model.heads["masked_lm"](x, tokens, positions=columns))
    batch = golden_inputs(load_golden(f"zoo/{PRETRAINED}"))
    attended = [np.flatnonzero(row) for row in batch["padding_mask"]]
    positions = np.stack([np.resize(row[::-1], 3) for row in attended]).astype(np.int32)
    expected = np.take_along_axis(
        model(batch)["masked_lm"].numpy(), positions[..., np.newaxis], axis=1
    )
    logits = some([batch, positions])
    assert logits.shape == (4, 3, 67)
    np.testing.assert_allclose(logits, expected, atol=2e-6)


def head(embeddings=None, **options):
    return MaskedLMHead(
        11,
        **{"transform_units": 6, "transform_activation": "relu", "norm_epsilon": 1e-5} | options,
        embeddings=embeddings,
        name="masked_lm",
    )


def run(layer, x):
    """Logits of float (B, S, H) in the padded layout."""
    rows, length, width = x.shape
    inputs = random_inputs(rows, length, vocabulary_size=5)
    return layer(x.reshape(-1, width), TokenLayout("padded")(**inputs)).numpy()


class Table:
    def __init__(self, value):
        self.token_table = keras.Variable(value)


def test_options_equal_the_formula():
    """MobileBERT's wider kernel, no biases, no norm."""
    random = np.random.default_rng(0)
    table = random.normal(size=(11, 4)).astype("float32")
    layer = head(
        Table(table), extra_units=2, norm_epsilon=None, transform_bias=False, decoder_bias=False
    )
    layer.build((None, 5))
    assert sorted(weight.path for weight in layer.weights) == [
        "masked_lm/extra_table",
        "masked_lm/transform/kernel",
    ]
    values = {w.path: random.normal(size=w.shape).astype("float32") for w in layer.weights}
    for weight in layer.weights:
        weight.assign(values[weight.path])
    x = random.normal(size=(2, 3, 5)).astype("float32")
    hidden = np.maximum(x @ values["masked_lm/transform/kernel"], 0)
    kernel = np.concatenate([table.T, values["masked_lm/extra_table"]])
    np.testing.assert_allclose(run(layer, x), hidden @ kernel, atol=1e-5)


def test_an_untied_head_has_a_kernel_a_norm_and_a_bias():
    layer = head()
    layer.build((None, 5))
    assert sorted(weight.path for weight in layer.weights) == [
        "masked_lm/bias",
        "masked_lm/decoder/kernel",
        "masked_lm/norm/beta",
        "masked_lm/norm/gamma",
        "masked_lm/transform/bias",
        "masked_lm/transform/kernel",
    ]
    layer.bias.assign(np.arange(11))
    layer.decoder.kernel.assign(np.zeros((6, 11)))
    logits = run(layer, np.ones((1, 2, 5), np.float32))
    np.testing.assert_array_equal(logits, np.broadcast_to(np.arange(11), (1, 2, 11)))


def test_a_table_of_another_width_is_refused():
    with pytest.raises(ConfigError, match=r"of shape \(11, 6\), received \(11, 4\)"):
        head(Table(np.zeros((11, 4), np.float32)))


def test_encoders_offer_their_tokens_in_either_layout():
    encoder = kbz.Encoder.from_preset(ASSETS / "zoo" / PRETRAINED, token_layout="packed")
    own, _, _ = encoder.token_outputs()
    assert own == encoder.token_outputs(token_layout="packed")[0]
    assert list(own) == list(encoder_inputs())
    _, _, layout = encoder.token_outputs(token_layout="padded")
    assert "shape_of" in layout
