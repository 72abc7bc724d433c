"""Every encoder family against transformers: configurations, comparison and small goldens.

    python -m tools.zoo.compare             compares; needs torch and transformers (extra `zoo`)
    python -m tools.zoo.goldens             writes tests/assets/zoo/, for tests

The module of a family defines:

- `CONFIG`, `MODELS`: its transformers classes; `MODELS` by head, "" for the bare encoder;
- `SMALL`: arguments of `CONFIG` for a tiny model; `VARIANTS`: name -> additional arguments;
- `ONLY`, optional: variant -> its heads; by default a variant is for all heads;
- `GOLDENS`: (head, variant) pairs with goldens in the repository;
- `inputs(config, random)`, optional: inputs, instead of `reference.random_inputs`;
- `FIRST_COLUMN_ATTENDED`, optional: heads whose inputs never mask the first token, because
  transformers would compute it from padding;
- `ATTENTIONS`, optional: False if transformers returns no attention scores.
"""
