"""Engines to compare with: a dense Llama of the same shape, its layers run once.

Each file runs in the Python where its engine is installed. Weights are random: time does not
depend on their values.
"""
