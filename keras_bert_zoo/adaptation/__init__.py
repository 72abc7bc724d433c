"""Changes to a loaded model: LoRA, new tokens, more positions."""
