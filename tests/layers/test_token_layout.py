"""Token layouts against NumPy: what each tensor holds, for right padding, holes and empty rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_zoo.layers.attention_groups import (
    FEW_TOKENS,
    MASKED_SCORE,
    flat_group,
    group_positions,
    merge_first_heads,
    merge_heads,
    padded_groups,
    split_first_heads,
    split_heads,
)
from keras_bert_zoo.layers.token_layout import (
    TokenLayout,
    TokensToBatch,
    from_batch,
    to_batch,
)

KINDS = [("padded", 1), ("packed", 1), ("packed", 3), ("packed", 6)]
OPTIONS = {"padding_id": 1, "neighbours": True, "last_tokens": True}


def right_padded(lengths, columns):
    return (np.arange(columns) < np.array(lengths)[:, np.newaxis]).astype(np.int32)


MASKS = {
    "right": right_padded([3, 9, 1, 9, 4, 7, 2], 9),
    "full": np.ones([4, 16], np.int32),
    "holes": np.random.default_rng(0).integers(0, 2, [9, 70]).astype(np.int32),
    "empty row": right_padded([2, 0, 5], 5),
    "one token": np.ones([1, 1], np.int32),
    "no rows": np.ones([0, 5], np.int32),
    "no columns": np.ones([0, 0], np.int32),
}


def inputs_for(mask):
    ids = np.arange(mask.size, dtype=np.int32).reshape(mask.shape) + 5
    return {"token_ids": ids, "segment_ids": ids % 2, "padding_mask": mask}


def lay_out(kind, groups, mask):
    """The layout of a batch in padded groups, as in training: always with all tokens."""
    layer = TokenLayout(kind, attention_groups=groups)
    return padded_groups(layer(**inputs_for(mask), training=True))


def attended_cells(mask):
    """An empty row attends to its first column."""
    attended = mask.astype(bool)
    if attended.size:
        attended[~attended.any(axis=1), 0] = True
    return attended


@pytest.mark.parametrize(("kind", "groups"), KINDS)
@pytest.mark.parametrize("name", MASKS)
def test_tokens_come_from_their_cells_and_return_to_them(name, kind, groups):
    inputs = inputs_for(MASKS[name])
    attended = attended_cells(MASKS[name])
    layout = lay_out(kind, groups, MASKS[name])

    def restored(values):
        return to_batch(values[:, tf.newaxis], layout)[..., 0].numpy()

    columns = np.broadcast_to(np.arange(attended.shape[1]), attended.shape)
    for key, expected in (
        ("token_ids", inputs["token_ids"]),
        ("segment_ids", inputs["segment_ids"]),
        ("positions", columns),
        ("attended", attended),
    ):
        actual = restored(layout[key])
        np.testing.assert_array_equal(actual[attended], expected[attended])
        assert actual.shape == attended.shape

    x = np.random.default_rng(1).normal(size=(*attended.shape, 4)).astype(np.float32)
    tokens = from_batch(tf.constant(x), layout)
    np.testing.assert_array_equal(to_batch(tokens, layout)[attended], x[attended])
    for parts, heads in ((1, 1), (1, 2), (2, 2)):
        split = split_heads(tf.concat([tokens] * parts, axis=1), layout, heads=heads, parts=parts)
        for groups_of_part in split:
            merged = tf.reshape(merge_heads(groups_of_part, layout), tokens.shape)
            np.testing.assert_array_equal(to_batch(merged, layout)[attended], x[attended])
            if "spares" in layout:
                assert not np.any(merged.numpy()[layout["spares"].numpy()])

    if attended.size:
        np.testing.assert_array_equal(tf.gather(tokens, layout["first_tokens"]), x[:, 0])


@pytest.mark.parametrize(("kind", "groups"), KINDS)
@pytest.mark.parametrize("name", ["right", "full", "holes", "empty row"])
def test_attention_sees_the_attended_tokens_of_each_row(name, kind, groups):
    mask = MASKS[name]
    layout = lay_out(kind, groups, mask)
    seen = []
    for positions, added in zip(group_positions(layout), layout["attend"], strict=True):
        for row, row_mask in zip(positions.numpy(), added[:, 0, 0].numpy(), strict=True):
            seen.append(row[row_mask == 0].tolist())
            assert set(row_mask[row_mask != 0]) <= {np.float32(MASKED_SCORE)}
    if "restore" in layout:
        seen = [seen[index] for index in layout["restore"].numpy()]
    assert seen == [np.flatnonzero(row).tolist() for row in attended_cells(mask)]


@pytest.mark.parametrize(("kind", "groups"), KINDS)
def test_heads_hold_their_part_of_each_vector(kind, groups):
    mask = MASKS["right"]
    layout = lay_out(kind, groups, mask)
    x = np.random.default_rng(2).normal(size=(*mask.shape, 3 * 2 * 4)).astype(np.float32)
    tokens = from_batch(tf.constant(x), layout)
    rows = np.arange(len(mask))
    if "restore" in layout:
        rows[layout["restore"].numpy()] = np.arange(len(mask))
    for part, of_groups in enumerate(split_heads(tokens, layout, heads=2, parts=3)):
        expected = x[..., part * 8 : part * 8 + 8].reshape(*mask.shape, 2, 4).transpose(0, 2, 1, 3)
        seen = iter(rows)
        for group in of_groups:
            for heads in group.numpy():
                row = next(seen)
                length = mask[row].sum()
                np.testing.assert_array_equal(heads[:, :length], expected[row][:, :length])


@pytest.mark.parametrize(("kind", "groups"), KINDS)
def test_first_heads_return_to_their_rows(kind, groups):
    layout = lay_out(kind, groups, MASKS["right"])
    first = np.random.default_rng(3).normal(size=(7, 8)).astype(np.float32)
    split = split_first_heads(tf.constant(first), layout, heads=2)
    whole = split_heads(
        tf.repeat(tf.constant(first[:1]), tf.size(layout["token_ids"]), axis=0), layout, heads=2
    )
    assert [part.shape[0] for part in split] == [part.shape[0] for part in whole[0]]
    merged = merge_first_heads(split, layout)
    np.testing.assert_array_equal(tf.reshape(merged, first.shape), first)


@pytest.mark.parametrize(("kind", "groups"), KINDS)
def test_gradients_reach_the_tokens_that_were_read(kind, groups):
    mask = MASKS["right"]
    layout = lay_out(kind, groups, mask)
    x = np.random.default_rng(4).normal(size=(*mask.shape, 8)).astype(np.float32)
    weights = np.random.default_rng(5).normal(size=(*mask.shape, 4)).astype(np.float32)
    weights *= mask[..., np.newaxis]
    tokens = from_batch(tf.constant(x), layout)
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        first, second = split_heads(tokens, layout, heads=2, parts=2)
        products = [a * b for a, b in zip(first, second, strict=True)]
        merged = tf.reshape(merge_heads(products, layout), [-1, 4])
        total = tf.reduce_sum(to_batch(merged, layout) * weights)
    gradient = tape.gradient(total, tokens)
    expected = np.concatenate([x[..., 4:] * weights, x[..., :4] * weights], axis=-1)
    actual = to_batch(gradient, layout).numpy()
    attended = mask.astype(bool)
    np.testing.assert_allclose(actual[attended], expected[attended], rtol=1e-6)
    if "spares" in layout:
        assert not np.any(gradient.numpy()[layout["spares"].numpy()])


def test_several_groups_hold_the_rows_by_length():
    layout = lay_out("packed", 3, right_padded([30, 1, 16, 5, 9, 9, 8, 2], 30))
    shapes = [tuple(group.shape) for group in layout["group_indices"]]
    assert shapes == [(4, 8), (2, 16), (2, 32)]
    assert layout["restore"].numpy().tolist() == [7, 0, 6, 2, 4, 5, 3, 1]


@pytest.mark.parametrize("name", MASKS)
def test_few_tokens_also_have_a_flat_group(name):
    attended = attended_cells(MASKS[name])
    layout = TokenLayout("packed", attention_groups=6)(**inputs_for(MASKS[name]))
    flat = flat_group(layout)
    ((_, width),) = [index.shape for index in flat["group_indices"]]
    count = layout["token_ids"].shape[0]
    assert bool(layout["few"]) == (count <= FEW_TOKENS) == (width > 0)
    grouped = sum(index.shape[0] for index in layout["group_indices"][:-1])
    assert grouped == (0 if width and len(attended) == 1 else len(attended))
    if not width:
        return
    assert width == count
    (positions,), (added,) = group_positions(flat), flat["attend"]
    seen = [positions[0].numpy()[row == 0].tolist() for row in added[0, 0].numpy()]
    cells = flat["cells"].numpy()
    for token, cell in enumerate(cells):
        row = cell // max(attended.shape[1], 1)
        spare = cell == attended.size
        assert seen[token] == ([] if spare else np.flatnonzero(attended[row]).tolist())

    x = np.random.default_rng(6).normal(size=(count, 3 * 2 * 4)).astype(np.float32)
    for dtype in ("float32", "bfloat16"):
        tokens = tf.cast(tf.constant(x), dtype)
        parts = split_heads(tokens, flat, heads=2, parts=3)
        for part, (heads,) in enumerate(parts):
            expected = tf.reshape(tokens[:, part * 8 : part * 8 + 8], [count, 2, 4])
            np.testing.assert_array_equal(heads[0], tf.transpose(expected, [1, 0, 2]))
            np.testing.assert_array_equal(merge_heads([heads], flat), expected)
    if len(attended) == 1:
        (first,) = split_first_heads(tokens[:1, :8], flat, heads=2)
        assert first.shape == (1, 2, 1, 4)
        np.testing.assert_array_equal(merge_first_heads([first], flat)[0, 0], tokens[0, :4])


@pytest.mark.parametrize(("kind", "groups"), KINDS)
@pytest.mark.parametrize("options", [{}, OPTIONS])
@pytest.mark.parametrize("shape", [(None, None), MASKS["right"].shape])
def test_symbolic_shapes_fit_the_real_ones(shape, kind, groups, options):
    names = ("token_ids", "segment_ids", "padding_mask")
    symbolic = {name: keras.Input(batch_shape=shape, dtype="int32", name=name) for name in names}
    layer = TokenLayout(kind, attention_groups=groups, **options)
    expected = layer(**symbolic)
    actual = layer(**inputs_for(MASKS["right"]))
    assert set(expected) == set(actual)

    def check(spec, tensor):
        assert spec.dtype == tensor.dtype.name
        assert len(spec.shape) == tensor.shape.rank
        pairs = zip(spec.shape, tensor.shape, strict=True)
        assert all(size in (None, real) for size, real in pairs)

    keras.tree.map_structure(check, expected, actual)
    if kind == "padded":  # compilers need to know these shapes
        assert expected["token_ids"].shape == (None if None in shape else 63,)
    restore = TokensToBatch()
    batch = restore(keras.KerasTensor((None, 4), "float32"), expected)
    check(batch, restore(tf.zeros([64 if kind == "packed" else 63, 4]), actual))


def test_masks_are_finite_in_float16_and_their_probability_is_0():
    assert np.isfinite(np.float16(2 * MASKED_SCORE))  # two masks may apply to one key
    assert np.exp(np.float32(MASKED_SCORE / 2)) == 0  # also where scores are large
