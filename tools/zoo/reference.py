"""The reference: random models of transformers, their inputs and outputs."""

import importlib
import inspect
import pkgutil
import zlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers

import tools.zoo

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

ROWS, LENGTH = 6, 17
NO_FAMILY = ("compare", "goldens", "reference")
# Head -> names of its logits in transformers; default: `logits`.
OUTPUTS = {
    "masked_lm": ("prediction_logits",),
    "next_sentence": ("seq_relationship_logits",),
    "sentence_order": ("sop_logits",),
    "question_answering": ("start_logits", "end_logits"),
}


@dataclass(frozen=True)
class Case:
    """One model to compare: a family, a head ("" for none) and a variant of its configuration."""

    family: str
    head: str
    variant: str

    @property
    def module(self) -> ModuleType:
        """The family's module."""
        return importlib.import_module(f"tools.zoo.{self.family}")

    @property
    def heads(self) -> list[str]:
        """The names of the heads."""
        return self.head.split("+") if self.head else []

    @property
    def name(self) -> str:
        """The folder of the golden."""
        return f"{self.family}-{self.head or 'encoder'}-{self.variant}"

    def __str__(self) -> str:
        return f"{self.family} / {self.head or 'encoder'} / {self.variant}"


def families() -> list[str]:
    """The names of families with a module."""
    names = [module.name for module in pkgutil.iter_modules(tools.zoo.__path__)]
    return sorted(set(names) - set(NO_FAMILY))


def cases(family: str) -> list[Case]:
    """All cases of a family."""
    module = Case(family, "", "").module
    only = getattr(module, "ONLY", {})
    return [
        Case(family, head, variant)
        for head in module.MODELS
        for variant in module.VARIANTS
        if head in only.get(variant, module.MODELS)
    ]


def make_model(case: Case) -> Any:
    """Builds a transformers model with random weights that all affect the outputs."""
    torch.manual_seed(zlib.crc32(str(case).encode()))
    config = case.module.CONFIG(**case.module.SMALL | case.module.VARIANTS[case.variant])
    config._attn_implementation = "eager"
    model = case.module.MODELS[case.head](config)
    scale = getattr(case.module, "SCALE", 1.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # biases and norms too
            # Outputs are then near 1 for every width.
            std = 0.3 if parameter.ndim == 1 else scale * parameter.shape[-1] ** -0.5
            parameter.normal_(std=std)
            if parameter.ndim == 1 and name.endswith("weight"):  # of a norm
                parameter += 1
    return model.eval()


def make_inputs(case: Case, config: Any, rows: int, length: int) -> dict[str, np.ndarray]:
    """Inputs under our names, int32 (rows, length)."""
    random = np.random.default_rng(zlib.crc32(case.variant.encode()))
    make = getattr(case.module, "inputs", None)
    inputs = make(config, random) if make else random_inputs(config, random, rows, length)
    # For some families transformers computes a masked first token from padding.
    if case.head in getattr(case.module, "FIRST_COLUMN_ATTENDED", ()):
        inputs["padding_mask"][:, 0] = 1
    return inputs


def random_inputs(
    config: Any, random: np.random.Generator, rows: int = ROWS, length: int = LENGTH
) -> dict[str, np.ndarray]:
    """Random ids and masks with holes; one row has no padding, one is padded on the left."""
    shape = (rows, length)
    mask = random.random(shape) < 0.7
    mask[:, 0] = True
    mask[1] = True
    mask[2] = np.arange(length) >= length // 3
    segments = getattr(config, "type_vocab_size", None) or 1
    return {
        "token_ids": random.integers(0, config.vocab_size, shape).astype(np.int32),
        "segment_ids": random.integers(0, segments, shape).astype(np.int32),
        "padding_mask": mask.astype(np.int32),
    }


def compute(case: Case, model: Any, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Runs a transformers model; returns NumPy arrays under our names."""
    tensors = {
        "input_ids": torch.tensor(inputs["token_ids"]).long(),
        "token_type_ids": torch.tensor(inputs["segment_ids"]).long(),
        "attention_mask": torch.tensor(inputs["padding_mask"]).long(),
    }
    if "token_type_ids" not in inspect.signature(model.forward).parameters:
        del tensors["token_type_ids"]
    if case.head == "multiple_choice":
        rows, length = inputs["token_ids"].shape
        tensors = {key: value.view(rows // 2, 2, length) for key, value in tensors.items()}
    details = {} if case.head else {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        outputs = model(**tensors, **details, return_dict=True)
    if not case.head:
        result = {
            "sequence_output": outputs.last_hidden_state.numpy(),
            "hidden_states": [state.numpy() for state in outputs.hidden_states],
        }
        if outputs.attentions is not None and getattr(case.module, "ATTENTIONS", True):
            result["attention_scores"] = [scores.numpy() for scores in outputs.attentions]
        if outputs.get("pooler_output") is not None:
            result["pooled_output"] = outputs.pooler_output.numpy()
        return result
    return {head: _logits(head, outputs) for head in case.heads}


def _logits(head: str, outputs: Any) -> np.ndarray:
    names = [name for name in OUTPUTS.get(head, ()) if name in outputs] or ["logits"]
    logits = np.stack([outputs[name].numpy() for name in names], axis=-1)
    if len(names) == 1:
        logits = logits[..., 0]
    return logits.reshape(-1, 1) if head == "multiple_choice" else logits
