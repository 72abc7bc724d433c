"""Tasks: text in, answer out. A task is a Keras model that knows its text."""
