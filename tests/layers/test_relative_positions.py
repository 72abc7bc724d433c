"""Buckets of distances, and the bias over both token layouts."""

import numpy as np

from keras_bert_zoo.layers.relative_positions import RelativePositionBias, buckets
from keras_bert_zoo.layers.token_layout import TokenLayout

# Distances at which the bucket changes, from MPNetEncoder.relative_position_bucket of transformers
# 5.23 for distances up to 20,000.
EDGES = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]


def test_buckets_change_where_those_of_transformers_do():
    away = np.arange(20000)
    expected = np.searchsorted(EDGES, away, side="right")
    np.testing.assert_array_equal(buckets(-away), expected)
    np.testing.assert_array_equal(buckets(away[1:]), expected[1:] + 16)


def test_far_tokens_share_a_bias():
    mask = np.zeros([2, 250], np.int32)
    mask[0] = 1
    mask[1, [3, 40, 200, 249]] = 1
    ids = np.ones_like(mask)
    bias = RelativePositionBias(2)
    table = bias.table.numpy()
    columns = np.arange(250)
    expected = table[buckets(columns[np.newaxis] - columns[:, np.newaxis])].transpose(2, 0, 1)
    for kind, rows in (("padded", {0: columns, 1: columns}), ("packed", {0: columns})):
        layout = TokenLayout(kind)(token_ids=ids, segment_ids=ids, padding_mask=mask)
        (actual,) = bias(layout)["attention_bias"]
        actual = actual.numpy()
        for row in rows:
            attended = np.flatnonzero(mask[row])
            np.testing.assert_array_equal(actual[row][:, :250, attended], expected[:, :, attended])
        if kind == "packed":
            keys = [0, 3, 40, 200, 249]  # the first column is kept even if it is masked
            np.testing.assert_array_equal(actual[1][:, :5, 1:5], expected[:, keys][:, :, keys[1:]])
