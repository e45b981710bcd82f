"""Attention and linear backends behind one protocol; knows nothing of the model.

Shape suffixes, in `kernels`, `model` and `cache` alike: N rows, M rows of later loops, T new
tokens, S stored tokens, B sequences, R loops, D width, H query heads, G key/value heads, K head
dim, F MLP width, V vocabulary, W window.
"""
