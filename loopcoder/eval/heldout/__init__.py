"""Held-out bits per byte, a document at a time: of a model in this process, or of an endpoint.

A document is read in windows of `length` tokens, each beginning with the last token of the one
before, so that every token behind the first is predicted once. In process that is the measurement
of `loopcoder perplexity` (`train.text_score`); an endpoint scores the text in its own tokens.
"""

from loopcoder.eval.heldout.endpoint import Endpoint
from loopcoder.eval.heldout.local import Local
from loopcoder.eval.heldout.run import bits_per_byte
from loopcoder.eval.heldout.scores import DocumentScore, HeldoutResult

__all__ = ["DocumentScore", "Endpoint", "HeldoutResult", "Local", "bits_per_byte"]
