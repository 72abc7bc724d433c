"""Metrics of every task, as functions of predictions and labels."""
