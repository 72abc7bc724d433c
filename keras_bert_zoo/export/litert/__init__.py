"""LiteRT (TFLite) models for devices: one file, with strings or token ids as inputs."""
