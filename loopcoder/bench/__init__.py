"""Measurements (`loopcoder bench`): our engine and its peers, in interleaved rounds.

Every engine runs in a worker process of its own (`worker`, `process`) and answers the same few
commands; only one works at a time, the others are stopped. `plan` says what is compared, `rounds`
takes turns, `summary` makes rows and ratios of the seconds. No torch outside the workers.
"""
