"""CamemBERT's tensors in Hugging Face's checkpoints."""

from keras_bert_zoo.checkpoints.names.roberta import roberta_names

NAMES = roberta_names("Camembert")
