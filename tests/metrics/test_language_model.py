import numpy as np

from keras_bert_zoo.data.pipeline import NO_LABEL
from keras_bert_zoo.metrics.language_model import MaskedAccuracy


def test_every_token_counts_once_whatever_the_width_of_its_batch():
    metric = MaskedAccuracy()
    logits = np.zeros((1, 4, 3), np.float32)
    logits[0, :, 1] = 1.0  # predicts token 1
    metric.update_state(np.array([[1, NO_LABEL, NO_LABEL, NO_LABEL]]), logits)
    metric.update_state(np.array([[1, 0], [2, 0]]), np.repeat(logits[:, :2], 2, axis=0))
    assert float(metric.result()) == np.float32(2 / 5)


def test_weights_of_rows():
    metric = MaskedAccuracy()
    logits = np.zeros((2, 2, 3), np.float32)
    logits[:, :, 1] = 1.0
    metric.update_state(np.array([[1, 0], [1, 1]]), logits, sample_weight=np.array([1.0, 0.5]))
    assert float(metric.result()) == np.float32(2 / 3)
