"""ERNIE's tensors in Hugging Face's checkpoints: BERT's tensors and task embeddings."""

from __future__ import annotations

import dataclasses

from keras_bert_zoo.checkpoints.names import bert
from keras_bert_zoo.config import EncoderConfig

_TASKS = {"embeddings/task_table": "embeddings.task_type_embeddings.weight"}


def _encoder(config: EncoderConfig) -> dict[str, str]:
    # Without task embeddings, no variable has this path.
    return bert.prefixed("ernie.", bert.EMBEDDINGS | _TASKS | bert.repeated(bert.BLOCK, config))


NAMES = dataclasses.replace(
    bert.NAMES,
    prefix="ernie.",
    encoder=_encoder,
    poolers={"": bert.prefixed("ernie.", bert.POOLER)},
    architectures={
        head: name.replace("Bert", "Ernie") for head, name in bert.NAMES.architectures.items()
    },
    tied={name: tensor.replace("bert.", "ernie.") for name, tensor in bert.NAMES.tied.items()},
)
