"""Translation with an encoder and a decoder."""
