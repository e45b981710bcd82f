"""Tokens to text as they come: whole characters only, and stop strings across token borders."""

from typing import Any

from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of one sequence, piece by piece.

    What could be the beginning of a stop string is held back until the next token decides.
    """

    def __init__(self, tokenizer: Any, prompt_token_ids: list[int], stop: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(ids=prompt_token_ids, skip_special_tokens=True)
        self._stop = stop
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Text that is certain after `token_id`; sets `stopped` when a stop string is complete."""
        self._held += self._decoder.step(self._tokenizer, token_id) or ""
        starts = [at for at in map(self._held.find, self._stop) if at >= 0]
        if starts:
            self.stopped = True
            return self._release(min(starts))
        return self._release(len(self._held) - self._pending())

    def flush(self) -> str:
        """What was held back, once it is known that no more tokens come."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _pending(self) -> int:
        """Length of the longest tail of the held text that begins some stop string."""
        longest = min(len(self._held), max((len(stop) - 1 for stop in self._stop), default=0))
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0
