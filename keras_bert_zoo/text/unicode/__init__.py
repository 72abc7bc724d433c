"""Unicode: classes of characters and normalization, in TensorFlow ops."""
