"""Regularization of fine-tuning: R-Drop, adversarial training, mixup and losses for labels."""
