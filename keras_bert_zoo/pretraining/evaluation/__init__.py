"""Evaluation of an encoder on suites of tasks, such as GLUE."""
