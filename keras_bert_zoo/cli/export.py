"""keras-bert-zoo export: writes a SavedModel that answers raw strings."""
