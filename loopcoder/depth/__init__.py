"""Tasks that need depth: generated, seeded, exact-match, by number of hops (docs/study.md).

Every task is asked in two ways: directly, so that all hops must happen inside the network, and
with the intermediate steps written out. Torch-free; `loopcoder.train.depth` makes shards of them.
"""
