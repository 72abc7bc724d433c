"""Keys of config.json that are no fields of a family: neutral keys and refused keys.

A key is refused only if it changes the results of the same tensors. (Keys that change the names or
shapes of tensors need no entry, because names and shapes are compared with the file.) Other unknown
keys are ignored and listed in a warning. transformers ignores them, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SHOWN = 80  # characters of a key in a message
_LISTED = 12  # keys in a message; the rest are counted

NEUTRAL_KEYS = frozenset(
    """_name_or_path _attn_implementation architectures attn_implementation bos_token_id
    eos_token_id eos_token_ids sep_token_id cls_token_id mask_token_id unk_token_id
    chunk_size_feed_forward custom_pipelines auto_map dtype torch_dtype finetuning_task
    gradient_checkpointing id2label label2id num_labels _num_labels language license name
    output_attentions output_hidden_states output_past problem_type return_dict
    return_dict_in_generate task_specific_params tie_encoder_decoder
    tokenizer_class torchscript transformers_version use_cache use_bfloat16
    prefix model_max_length sentence_transformers sbert_ce_default_activation_function
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    decoder_start_token_id max_length min_length do_sample early_stopping num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
    length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores forced_bos_token_id forced_eos_token_id
    remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens tf_legacy_loss loss_type initializer_factor function_to_apply
    tie_last_hidden_states _commit_hash""".split()
)
"""Keys that do not change the encoder's results: for other software, for heads (which read them
from the same file), for training or for information."""

REFUSED_KEYS: Mapping[str, tuple[Any, ...]] = {
    # Options of transformers for models other than text encoders.
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "is_causal": (False, None),
    "pruned_heads": ({}, [], None),
    "quantization_config": (None,),
    "compression_config": (None,),
    "per_layer_config": ({}, None),
    "quant_mode": (False, None),  # I-BERT
    # Google's converter writes these for BERT's standard attention and pooler.
    "directionality": ("bidi", None),
    "pooler_type": ("first_token_transform", None),
    # Other positions: ALiBi, rotary and relative. Some checkpoints (NEZHA, Jina, MosaicBERT) have
    # them with the model_type of BERT or XLM-RoBERTa.
    "position_embedding_type": ("absolute", None),
    "relative_attention": (False, None),
    "use_relative_position": (False, None),
    "use_relative_positions": (False, None),
    "max_relative_position": (None,),
    "rotary_value": (False, None),
    "rotary_emb_base": (None,),
    "rotary_emb_fraction": (0, None),
    "rotary_emb_dim": (0, None),
    "rotary_scaling_factor": (None,),
    "use_rotary_embeddings": (False, None),
    "rope_theta": (None,),
    "rope_scaling": (None,),
    "rope_parameters": (None,),
    "alibi": (False, None),
    "use_alibi": (False, None),
    "alibi_starting_size": (None,),
    # Other computations with the same tensors.
    "pre_norm": (False, None),
    "prenorm": (False, None),
    "normalize_before": (False, None),
    "encoder_normalize_before": (False, None),
    "parallel_block": (False, None),
    "use_rms_norm": (False, None),
    "rms_norm_eps": (None,),
    "layer_norm_type": ("layer_norm", "layernorm", None),
    "normalization_type": ("layer_norm", None),
    "feed_forward_type": ("original", None),
    "attention_window": (None,),
    "sliding_window": (None,),
    "local_attention": (None,),
    "token_dropout": (False, None),
    "emb_layer_norm_before": (False, None),
    "embedding_multiplier": (1, None),
    "logit_scale": (None,),
    # Additional weights that only the model's own code loads.
    "lora_adaptations": ([], None),
    "adapter_config": (None, {}),
    # `adapters` is refused if it lists any; see `has_adapters`.
}
"""Key that changes the results -> the values that do not. Applies to every family that does not
read the key or list it in `fixed`."""


def has_adapters(value: Any) -> bool:
    """Returns whether `adapters` in a config.json (of the package adapters) lists any.

    >>> has_adapters({"adapters": {}}), has_adapters({"adapters": {"news": "pfeiffer"}})
    (False, True)
    """
    if not isinstance(value, Mapping):
        return value not in (None, [])
    listed = value.get("adapters", value.get("adapter_list"))
    return bool(listed)


def is_refused(key: str, value: Any) -> bool:
    """Returns whether a key changes the results of a family that does not read it.

    >>> is_refused("alibi", True), is_refused("alibi", None), is_refused("my_notes", True)
    (True, False, False)
    """
    if key == "adapters":
        return has_adapters(value)
    return key in REFUSED_KEYS and value not in REFUSED_KEYS[key]


def list_unread(keys: Iterable[str]) -> str:
    """Formats ignored keys for a warning; shows only the first ones of a long list.

    >>> list_unread(["my_notes", "a"])
    '`a`, `my_notes`'
    """
    shown = [ascii(key)[1:-1][:_SHOWN] for key in sorted(keys)]
    rest = len(shown) - _LISTED
    return ", ".join(f"`{key}`" for key in shown[:_LISTED]) + (
        f" and {rest} more" if rest > 0 else ""
    )
