"""Question answering over a collection of documents."""
