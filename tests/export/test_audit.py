import pytest
import tensorflow as tf

from keras_bert_zoo.errors import ExportError
from keras_bert_zoo.export.audit import audit_saved_model


def save(tmp_path, function):
    signature = tf.function(function, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=signature.get_concrete_function())
    return tmp_path


def test_an_export_passes(single, regressor):
    ops = audit_saved_model(single.export.path)
    assert {"FastBertNormalize", "MatMul", "FusedBatchNormV3"} <= ops
    assert "ReadVariableOp" in audit_saved_model(regressor.export.path)


def python(x):
    return tf.numpy_function(lambda y: y, [x], tf.float32)


def dropout(x):
    return tf.nn.dropout(x, 0.5)


compiled = tf.function(lambda x: x + 1, jit_compile=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (python, r"PyFunc in .* \(runs Python\)"),
        (dropout, r"RandomUniform in .* \(is random\)"),
        (compiled, "must be compiled by XLA"),
    ],
)
def test_what_tf_serving_cannot_run_is_refused(tmp_path, function, message):
    def nested(x):
        return {"y": tf.function(function)(x)}

    with pytest.raises(ExportError, match=f"TF Serving cannot run .*: .*{message}"):
        audit_saved_model(save(tmp_path, nested))
