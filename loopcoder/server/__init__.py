"""An OpenAI-compatible server on the engine, and a page that shows the loops at work.

Two processes: the front (HTTP, tokenizer, checks; no torch) and the engine, joined by a pipe. A
token never waits for the front's Python, nor a slow reader's socket for the engine.
"""
