"""The catalogue of presets; loading, saving and converting checkpoints."""
