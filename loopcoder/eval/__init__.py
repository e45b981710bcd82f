"""Benchmarks: what to ask (`problems`, `tasks`), where to run it (`sandbox`), whether it is right.

Built on inspect-ai, with this project's engine as a model provider and bubblewrap as a sandbox
provider (`registry`). Importing this package imports neither inspect-ai nor torch.
"""
