"""Keras layers that the encoders are built of.

Legend of dimensions, used in every shape comment: B batch, S padded length, T tokens in the
batch (one row per token, whatever the layout), H hidden_dim, I intermediate_dim, N num_heads,
D head size, n rows in an attention group, s padded length of that group.
"""
