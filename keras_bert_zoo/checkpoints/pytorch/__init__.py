"""PyTorch's own files, read without running what they contain."""
