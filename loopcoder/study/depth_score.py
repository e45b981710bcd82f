"""Exact answers to the tasks that need depth (`loopcoder.depth`), by number of hops.

What a model writes is its greedy text. It is found by drafting: behind the prompt stands a guess,
at first the true text, and one forward pass tells the likeliest token at each place of it. As far
as those are the guess, the model would have written it; the others are the next guess (Jacobi
decoding: Santilli et al., arXiv 2305.10427). So a model that is right is done after one pass. For
the rest of the others, `generate` is faster where there is a cache; variants of the architecture
have none and go on drafting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from loopcoder.depth.question import END, MAX_HOPS, Mode, Question
from loopcoder.depth.tasks import check_choice, different_questions
from loopcoder.errors import ConfigError
from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM
from loopcoder.train.data.tokenizer import BOS, SPECIAL_TOKENS
from loopcoder.train.depth import byte_ids, byte_tokenizer, id_of_token

SLACK = 4  # tokens that written steps may take beyond the true ones
_PAD = 0  # any token: no other sees it


@dataclass(frozen=True, kw_only=True)
class DepthQuestions:
    """What every model of a study is asked: `count` test questions of each task and depth.

    Where fewer different ones exist, all of them. `seed` decides which, and their order.
    """

    tasks: tuple[str, ...]
    modes: tuple[Mode, ...]
    hops: tuple[int, ...]
    count: int
    seed: int

    def __post_init__(self) -> None:
        """Raise `ConfigError` naming the field for what cannot be asked."""
        check_choice("questions", self.tasks, self.modes)
        different = len(set(self.hops)) == len(self.hops) > 0
        if not different or not all(1 <= hops <= MAX_HOPS for hops in self.hops):
            raise ConfigError(
                f"questions.hops is {list(self.hops)}; give different ones from 1 to {MAX_HOPS}"
            )
        if self.count < 1:
            raise ConfigError(f"questions.count is {self.count}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class DepthScore:
    """`right[i]` has a "1" or "0" for each question of `hops[i]` hops, in the order asked."""

    task: str
    mode: Mode
    hops: list[int]
    right: list[str]


def score_depth(
    model: IQuestPLTCoderForCausalLM,
    asked: DepthQuestions,
    *,
    loops: int | None = None,
    batch: int = 64,
) -> list[DepthScore]:
    """Ask `model`, run at `loops` loops (None: its own), all of `asked`, `batch` at a time.

    One score for each task and mode, in their order. Directly asked, an answer is right if the
    text after the mark is the true one. With steps its last character decides, whatever the steps
    are; the text must end within `SLACK` tokens more than the true one takes. The model reads
    byte tokens (`loopcoder.train.depth`). Raises `ConfigError` for a smaller vocabulary and
    `RequestError` for a loop count that it cannot run.
    """
    alphabet = Alphabet.of_bytes()
    if model.config.vocab_size < alphabet.size:
        raise ConfigError(
            f"vocab_size is {model.config.vocab_size}; questions are asked in byte tokens, of "
            f"which there are {alphabet.size}: give a model trained on them"
        )
    was_training = model.training
    model.train(False)
    scores = []
    for task in asked.tasks:
        drawn = [
            different_questions(task, hops, "test", asked.seed, asked.count) for hops in asked.hops
        ]
        for mode in asked.modes:
            replies = [[Reply.to(each, mode, alphabet) for each in some] for some in drawn]
            write([reply for some in replies for reply in some], model, loops, batch)
            right = ["".join("01"[reply.right] for reply in some) for some in replies]
            scores.append(DepthScore(task=task, mode=mode, hops=list(asked.hops), right=right))
    model.train(was_training)
    return scores


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """Byte tokens: the id of each character, and of bos; those that end a text."""

    id_of: dict[str, int]
    bos: int
    stops: frozenset[int]
    size: int

    @classmethod
    def of_bytes(cls) -> "Alphabet":
        """That of the shards that `loopcoder.train.depth` writes."""
        tokenizer = byte_tokenizer()
        ids = byte_ids(tokenizer)
        special = {token: id_of_token(tokenizer, token) for token in SPECIAL_TOKENS}
        return cls(
            id_of=ids,
            bos=special[BOS],
            stops=frozenset([ids[END], *special.values()]),
            size=tokenizer.get_vocab_size(),
        )


@dataclass(kw_only=True)
class Reply:
    """What a model has written so far after the `prompt`; `truth` is what it should write.

    `guess` are tokens that may come next: what is written does not depend on them.
    """

    prompt: list[int]
    truth: list[int]
    stops: frozenset[int]
    direct: bool
    guess: list[int]
    written: list[int] = field(default_factory=list)

    @classmethod
    def to(cls, question: Question, mode: Mode, alphabet: Alphabet) -> "Reply":
        """Nothing written yet, to the question's first query."""
        query = question.queries[0]
        prompt, truth = (
            [alphabet.id_of[character] for character in text]
            for text in (question.statement + query.prompt(mode), query.continuation(mode))
        )
        return cls(
            prompt=[alphabet.bos, *prompt],
            truth=truth,
            guess=truth[:-1],
            stops=alphabet.stops,
            direct=mode == "direct",
        )

    @property
    def start(self) -> int:
        """Place of the last token that is known; the model's logits there tell the next."""
        return len(self.prompt) + len(self.written) - 1

    @property
    def draft(self) -> list[int]:
        """Prompt, what is written and the guess: what the next pass reads."""
        return self.prompt + self.written + self.guess

    @property
    def room(self) -> int:
        """Tokens that may still be written."""
        return len(self.truth) + SLACK - len(self.written)

    @property
    def done(self) -> bool:
        """Whether the text has ended, has grown too long or can no longer be right."""
        if not self.written:
            return False
        if self.direct and self.written != self.truth[: len(self.written)]:
            return True
        return self.written[-1] in self.stops or not self.room

    @property
    def right(self) -> bool:
        """Whether the text ends with the answer and the end mark."""
        return self.written[-2:] == self.truth[-2:]

    def accept(self, best: list[int]) -> None:
        """Write on: `best` are the likeliest tokens at `start` and after each token guessed.

        The first is written, and each next one as long as the guess before it was right.
        """
        right = 0
        while not self.done:
            self.written.append(best[right])
            if self.guess[right : right + 1] != best[right : right + 1]:
                break
            right += 1
        self.guess = best[right + 1 :][: max(self.room - 1, 0)]

    def extend(self, tokens: list[int]) -> None:
        """Write `tokens`, which are the likeliest ones, until the text is done."""
        for token in tokens:
            if self.done:
                return
            self.written.append(token)


@torch.inference_mode()
def write(
    replies: Sequence[Reply], model: IQuestPLTCoderForCausalLM, loops: int | None, batch: int
) -> None:
    """Let `model` write all `replies` to their ends, those of like length together."""
    write_on = _draft
    while waiting := [reply for reply in replies if not reply.done]:
        waiting.sort(key=lambda reply: len(reply.draft))
        for first in range(0, len(waiting), batch):
            write_on(waiting[first : first + batch], model, loops)
        write_on = _draft if model.model.shape.variant else _generate


def _draft(replies: Sequence[Reply], model: IQuestPLTCoderForCausalLM, loops: int | None) -> None:
    """One forward pass. Pads stand behind the drafts, where no token of these sees them."""
    drafts = [reply.draft for reply in replies]
    width, first = max(map(len, drafts)), min(reply.start for reply in replies)
    padded = [draft + [_PAD] * (width - len(draft)) for draft in drafts]
    token_BT = torch.tensor(padded, device=model.device)
    keep = width - first
    output = model(input_ids=token_BT, use_cache=False, num_loops=loops, logits_to_keep=keep)
    best_BK: list[list[int]] = output.logits.argmax(-1).tolist()
    for reply, draft, best_K in zip(replies, drafts, best_BK, strict=True):
        reply.accept(best_K[reply.start - first : len(draft) - first])


def _generate(
    replies: Sequence[Reply], model: IQuestPLTCoderForCausalLM, loops: int | None
) -> None:
    """All that is left to write, token by token. Pads stand before the texts, and are masked."""
    known = [reply.prompt + reply.written for reply in replies]
    width = max(map(len, known))
    lacking = [width - len(tokens) for tokens in known]
    pads = zip(known, lacking, strict=True)
    token_BT = torch.tensor([[_PAD] * few + tokens for tokens, few in pads], device=model.device)
    before_B = torch.tensor(lacking, device=model.device)
    mask_BT = torch.arange(width, device=model.device) >= before_B[:, None]
    text_BT = model.generate(
        token_BT,
        attention_mask=mask_BT.long(),
        num_loops=loops,
        max_new_tokens=max(reply.room for reply in replies),
        do_sample=False,
        eos_token_id=sorted(replies[0].stops),
        pad_token_id=_PAD,
    )
    for reply, tokens in zip(replies, text_BT[:, width:].tolist(), strict=True):
        reply.extend(tokens)
