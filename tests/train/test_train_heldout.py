"""Held-out bits per byte against a plain computation."""

import math
from pathlib import Path

import pytest
import torch

from loopcoder.errors import DataError
from loopcoder.model.plt import PLT
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.heldout import Heldout, score
from loopcoder.train.plan import make_plan
from tests.train.train_helpers import BOS, tiny_recipe, write_shards

CPU = torch.device("cpu")
LENGTH = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards", heldout=500)


class Network(torch.nn.Module):
    """A model with random weights, under the arguments that scoring uses."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.plt = PLT(make_plan(tiny_recipe(), folder).shape).double()
        for parameter in self.plt.parameters():
            torch.nn.init.normal_(parameter, std=0.3)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool):  # type: ignore[no-untyped-def]
        assert not use_cache
        return self.plt(input_ids, position_ids=position_ids)


def plain_nats(network: Network, heldout: Heldout) -> tuple[float, int, int]:
    """Document by document, without packing."""
    nats, tokens, nbytes = 0.0, 0, 0
    for window in range(heldout.windows):
        ids = heldout.shards.window(window * LENGTH, LENGTH).tolist()
        starts = sorted({0, *(i for i, token in enumerate(ids) if token == BOS)})
        for start, end in zip(starts, [*starts[1:], LENGTH], strict=True):
            document = torch.tensor([ids[start:end]])
            logprob = network.plt(document).logits[0].log_softmax(-1)
            for place, token in enumerate(document[0, 1:].tolist()):
                nats -= logprob[place, token].item()
                tokens += 1
                nbytes += int(heldout.shards.token_bytes[token])
    return nats, tokens, nbytes


def test_score_is_the_plain_sum(folder: Path) -> None:
    network, heldout = Network(folder), Heldout(TokenShards(folder, "heldout"), length=LENGTH)
    with torch.no_grad():
        nats, tokens, nbytes = plain_nats(network, heldout)
    for batch in (1, 3, 100):
        result = score(network, heldout, batch=batch, device=CPU, limit=None)
        assert result.nats == pytest.approx(nats, rel=1e-6)
        assert (result.tokens, result.bytes, result.windows) == (tokens, nbytes, heldout.windows)
        assert result.bits_per_byte == pytest.approx(nats / math.log(2) / nbytes, rel=1e-6)
        assert result.loss == pytest.approx(nats / tokens, rel=1e-6)
    assert network.training


def test_a_subset_is_fixed_and_spread(folder: Path) -> None:
    heldout = Heldout(TokenShards(folder, "heldout"), length=LENGTH)
    batches = [b["input_ids"] for b in heldout.batches(2, 5)]
    again = [b["input_ids"] for b in heldout.batches(5, 5)]
    assert torch.equal(torch.cat(batches), torch.cat(again))
    assert sum(map(len, batches)) == 5
    first = heldout.shards.window(0, LENGTH)
    last = heldout.shards.window(8 * LENGTH, LENGTH)  # 4/5 of 10 windows
    assert torch.cat(batches)[0].tolist() == first.tolist()
    assert torch.cat(batches)[-1].tolist() == last.tolist()


def test_a_short_split_is_one_window(folder: Path) -> None:
    shards = TokenShards(folder, "heldout")
    heldout = Heldout(shards, length=10_000)
    assert (heldout.windows, heldout.length) == (1, len(shards))


def test_nothing_held_out_is_an_error(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", heldout=1)
    with pytest.raises(DataError, match="the heldout split has 1 tokens"):
        make_plan(tiny_recipe(), folder)
