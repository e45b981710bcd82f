"""The model `loopcoder` of lm-eval: log-likelihoods and text from the engine.

Texts become tokens by lm-eval's rules (`TemplateLM`), so that scores can be compared with those of
its other models: a continuation's tokens are those of the whole text behind the context's, an empty
context is the prefix token, what is too long loses its beginning.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from loopcoder.checkpoint.config_file import read_config
from loopcoder.checkpoint.identity import checkpoint_hash
from loopcoder.checkpoint.locate import locate
from loopcoder.engine.llm import LLM
from loopcoder.errors import RequestError
from loopcoder.eval.lm_harness.scores import Pair, Score, score_pairs
from loopcoder.model.cost import parameters
from loopcoder.types import SamplingParams

_LOG = logging.getLogger(__name__)
_SEQUENCES = 16  # that run at once where lm-eval's batch size is "auto"
_WAITING = 8  # requests in one call for each that runs
_SAMPLING = {field.name for field in fields(SamplingParams)} - {"n", "loops", "stop", "max_tokens"}


@register_model("loopcoder")
class LoopCoderLM(TemplateLM):  # lm-eval's types are not complete
    """A checkpoint in lm-eval.

    `pretrained` is a bundled name, a directory or a hub id; `loops`, `dtype`, `quantization`,
    `device` and `num_threads` are those of `LLM`. `batch_size` sequences run at once, "auto" is 16.
    `max_length` is how many tokens the model sees (None: as many as it has positions, less the two
    that the engine needs to write and to read one more). `max_gen_toks`, `add_bos_token`,
    `prefix_token_id`, `enable_thinking` and `think_end_token` mean what they mean for lm-eval's
    `hf`. `seed` is that of sampled text, which lm-eval asks for rarely; request i has seed + i.

    Raises `RequestError`, naming the argument, for what cannot be used.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        loops: int | None = None,
        dtype: str = "auto",
        quantization: str | None = None,
        device: str = "auto",
        num_threads: int | None = None,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        enable_thinking: bool | None = None,
        think_end_token: str | None = None,
        seed: int = 1234,
        **unknown: object,
    ) -> None:
        super().__init__()
        if unknown:
            raise RequestError(
                f"model_args has {', '.join(unknown)}, which loopcoder does not take"
            )
        self._directory = locate(str(pretrained))
        positions = read_config(self._directory).max_position_embeddings
        self.max_length = _max_length(max_length, positions)
        self._sequences = _sequences(batch_size)
        self.llm = LLM(
            self._directory,
            loops=loops,
            dtype=dtype,
            quantization=quantization,
            device=_device(device),
            num_threads=num_threads,
            max_num_seqs=self._sequences,
            max_model_len=self.max_length + 2,
        )
        if self.llm.tokenizer is None:
            raise RequestError(f"{self._directory} has no tokenizer, and lm-eval's tasks are texts")
        self.tokenizer: Any = self.llm.tokenizer
        self.max_gen_toks = max_gen_toks
        self._add_bos = add_bos_token
        self._prefix = prefix_token_id
        self._template = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        self._think_end = think_end_token
        self._seed = seed

    @property
    def eot_token_id(self) -> int | None:
        """The tokenizer's end token."""
        found: int | None = self.tokenizer.eos_token_id
        return found

    @property
    def prefix_token_id(self) -> int:
        """What stands before the first token: bos, or the end token where there is none."""
        candidates = (self._prefix, self.tokenizer.bos_token_id, self.eot_token_id)
        found = next((token for token in candidates if token is not None), None)
        if found is None:
            raise RequestError(
                f"{self._directory}: the tokenizer has neither bos nor eos; give prefix_token_id"
            )
        return found

    @property
    def batch_size(self) -> int:
        """How many sequences run at once."""
        return self._sequences

    @property
    def tokenizer_name(self) -> str:
        """Under which lm-eval keeps requests made with this chat template."""
        return str(self._directory).replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside the results."""
        config = self.llm.model.config
        return {
            "model_num_parameters": parameters(config).total,
            "model_dtype": str(self.llm.model.model.norm.weight.dtype).removeprefix("torch."),
            "model_sha": checkpoint_hash(self._directory),
            "model_loops": self.llm.loops,
        }

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: object
    ) -> list[int]:
        """Tokens of a text; none is put before a text that begins with the prefix token's own."""
        add = self._add_bos if add_special_tokens is None else add_special_tokens
        prefix = self.tokenizer.decode([self.prefix_token_id])
        if add_special_tokens is None and prefix and string.startswith(prefix):
            add = False
        options = {} if add is None else {"add_special_tokens": add}
        return list(self.tokenizer(string, verbose=False, **options)["input_ids"])

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, Sequence[int], Sequence[int]]],
        disable_tqdm: bool = False,
        **kwargs: object,
    ) -> list[Score]:
        """Scores of (cache key, context, continuation); the key is lm-eval's."""
        pairs = [self._cut(context, continuation) for _, context, continuation in requests]
        with tqdm(total=len(pairs), disable=disable_tqdm, desc="Log-likelihoods") as bar:
            scores = score_pairs(self.llm, pairs, sequences=self._sequences, done=bar.update)
        for (key, _, _), score in zip(requests, scores, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, tuple(score))
        return scores

    def _cut(self, context: Sequence[int], continuation: Sequence[int]) -> Pair:
        """The last token is predicted, not seen, so `max_length` + 1 fit."""
        room = self.max_length + 1 - len(continuation)
        if room < 1 or not continuation:
            raise RequestError(
                f"a continuation has {len(continuation)} tokens; 1 to {self.max_length} "
                "(max_length) can be scored"
            )
        if len(context) > room:
            _LOG.warning("a context of %d tokens is cut to its last %d", len(context), room)
        return Pair(context[-room:], continuation)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Log-likelihoods of whole texts, in windows of `max_length` tokens."""
        windows: list[tuple[None, Sequence[int], Sequence[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            cut = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, cut):
                windows.append((None, context, continuation))
                owners.append(number)
        totals = [0.0] * len(requests)
        scores = self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
        for number, score in zip(owners, scores, strict=True):
            totals[number] += score.log_likelihood
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Continue each text up to one of its stop strings, the model's end, or the token limit."""
        asked = [self._asked(request.args, number) for number, request in enumerate(requests)]
        # Prompts that begin alike run together or one after another: the engine reads them once.
        order = sorted(range(len(asked)), key=lambda number: asked[number][0])
        texts = [""] * len(asked)
        size = self._sequences * _WAITING
        with tqdm(total=len(asked), disable=disable_tqdm, desc="Generating") as bar:
            for at in range(0, len(order), size):
                numbers = order[at : at + size]
                some = [asked[number] for number in numbers]
                outputs = self.llm.generate([one[0] for one in some], [one[1] for one in some])
                for number, (_, _, until), output in zip(numbers, some, outputs, strict=True):
                    text = output.outputs[0].text
                    texts[number] = postprocess_generated_text(text, until, self._think_end)
                bar.update(len(numbers))
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def _asked(
        self, args: tuple[str, Mapping[str, Any]], number: int
    ) -> tuple[list[int], SamplingParams, list[str]]:
        """Prompt, parameters and stop strings of one request."""
        text, given = args
        options = dict(normalize_gen_kwargs(dict(given), self.max_gen_toks))
        until = [stop for stop in handle_stop_sequences(options.pop("until"), eos=None) if stop]
        limit = options.pop("max_gen_toks")
        del options["do_sample"]  # its meaning is in the temperature
        unknown = options.keys() - _SAMPLING
        room = self.max_length - limit
        if unknown or room < 1:
            raise RequestError(
                f"generation_kwargs has {', '.join(sorted(unknown))}, which the engine does not do"
                if unknown
                else f"max_gen_toks is {limit} and max_length {self.max_length}: no room to read in"
            )
        temperature = options.pop("temperature", 0.0)
        sampled = {"seed": self._seed + number} if temperature > 0 else {}
        params = SamplingParams(
            max_tokens=limit,
            temperature=temperature,
            # Reasoning may hold a stop string; what follows it is cut afterwards.
            stop=() if self._think_end else tuple(until),
            stop_token_ids=() if self.eot_token_id is None else (self.eot_token_id,),
            **{**sampled, **options},
        )
        token_ids = self.tok_encode(text) or [self.prefix_token_id]
        return token_ids[-room:], params, until

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text; without a generation prompt its last message goes on."""
        if not self.tokenizer.chat_template:
            raise RequestError(
                f"{self._directory} has no chat template; leave out --apply_chat_template"
            )
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self._template,
        )
        return text


def _device(asked: str) -> str:
    """lm-eval's command line asks for a GPU unless told otherwise, there or not."""
    if asked.startswith("cuda") and not torch.cuda.is_available():
        _LOG.info("no GPU here: running on the CPU")
        return "cpu"
    return asked


def _sequences(batch_size: int | str) -> int:
    """How many sequences run at once; "auto" and "auto:N" leave it to us."""
    if str(batch_size).startswith("auto"):
        return _SEQUENCES
    if not str(batch_size).isdigit() or int(batch_size) < 1:
        raise RequestError(f"batch_size is {batch_size!r}; give a number from 1, or auto")
    return int(batch_size)


def _max_length(asked: int | None, positions: int) -> int:
    most = positions - 2
    if asked is None:
        return most
    if not 1 <= asked <= most:
        raise RequestError(
            f"max_length is {asked}; this model has {positions} positions, so give 1 to {most}"
        )
    return asked
