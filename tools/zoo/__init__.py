"""Every encoder family against transformers: what is compared, the comparison, its small goldens.

    python -m tools.zoo.compare             compares; needs torch and transformers (extra `zoo`)
    python -m tools.zoo.goldens             writes tests/assets/zoo/, which tests compare with

A module here that is named after a family says what is compared:

- `CONFIG`, `MODELS`: its transformers classes; `MODELS` by head, "" being the bare encoder;
- `SMALL`: arguments of `CONFIG` that make a tiny model; `VARIANTS`: name -> further arguments;
- `ONLY`, optional: variant -> heads that it is for; the others are for all heads;
- `GOLDENS`: (head, variant) pairs whose goldens the repository keeps;
- `inputs(config, random)`, optional: other inputs than `reference.random_inputs` makes;
- `FIRST_COLUMN_ATTENDED`, optional: heads whose inputs keep every row's first token, because
  transformers computes it from padding where it is masked;
- `ATTENTIONS`, optional: False where transformers returns no attention scores.
"""
