"""`AsyncLLM`: one engine for many tasks of an event loop, stepped by a thread of its own."""

import asyncio
import queue
import threading
from concurrent.futures import Future
from typing import NamedTuple

from loopcoder.engine.llm import LLM
from loopcoder.engine.prompts import Prompt
from loopcoder.types import RequestOutput, SamplingParams


class _Ask(NamedTuple):
    prompt: Prompt
    params: SamplingParams
    answer: "Future[RequestOutput]"


class AsyncLLM:
    """Answers requests of any number of tasks together, as they come.

    The thread alone touches the engine; `llm` must not be used otherwise until `close`.
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self._inbox: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._answers: dict[str, Future[RequestOutput]] = {}
        self._thread = threading.Thread(target=self._work, name="loopcoder-engine", daemon=True)
        self._thread.start()

    async def generate(self, prompt: Prompt, params: SamplingParams) -> RequestOutput:
        """Complete a prompt (text or token ids). Cancelling the task stops the work.

        Raises `RequestError` for bad input and `RuntimeError` after `close`.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the engine is closed; make another AsyncLLM")
        ask = _Ask(prompt, params, Future())
        self._inbox.put(ask)
        return await asyncio.wrap_future(ask.answer)

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        while self._read():
            self._forget_cancelled()
            try:
                self._step()
            except Exception as error:  # a step that failed may fail again: all in it end here
                self._end_all(error)
        self._end_all(None)

    def _read(self) -> bool:
        """Take what has come, waiting only while there is nothing to do. False once closed."""
        while not (self._inbox.empty() and self._answers):
            ask = self._inbox.get()
            if ask is None:
                return False
            if ask.answer.cancelled():
                continue
            try:
                request = self.llm.request(ask.prompt, ask.params)
                self.llm.engine.add(request)
            except Exception as error:
                _fail(ask.answer, error)
            else:
                self._answers[request.request_id] = ask.answer
        return True

    def _forget_cancelled(self) -> None:
        for name in [name for name, answer in self._answers.items() if answer.cancelled()]:
            self.llm.engine.abort(name)
            del self._answers[name]

    def _step(self) -> None:
        for update in self.llm.engine.step() if self._answers else ():
            if update.output is not None:
                _succeed(self._answers.pop(update.request_id), update.output)

    def _end_all(self, error: Exception | None) -> None:
        for name, answer in self._answers.items():
            self.llm.engine.abort(name)
            if error is None:
                answer.cancel()
            else:
                _fail(answer, error)
        self._answers.clear()
        self.llm.engine.scheduler.distrust()


def _succeed(answer: "Future[RequestOutput]", output: RequestOutput) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_result(output)


def _fail(answer: "Future[RequestOutput]", error: Exception) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)
