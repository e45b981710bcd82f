"""The sweep as one command: matched models for a list of loop counts, measured and compared.

`recipe` is what a study may say, `matrix` which models it trains, `work` one of them from data to
records, `pool` several at a time, `run` the whole (docs/study.md).
"""
