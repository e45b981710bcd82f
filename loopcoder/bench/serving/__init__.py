"""The server under load (`loopcoder bench serve`), beside other servers and beside no server.

Real servers in processes of their own (`servers`), one working at a time, and a public load
generator as the client (`clients`). `alone` answers the same prompts in the engine without a
server, `rounds` takes turns, `summary` makes rows and ratios. No torch outside subprocesses.
"""
