"""A text token by token, against the model's own predictions."""

import pytest
import torch

from loopcoder.errors import RequestError
from loopcoder.probes import read_passage
from tests.probes.models import source, tiny, tokens

WRITTEN = 0.5e-5 + 1e-9  # five digits


@pytest.mark.parametrize("loops", [1, 3])
def test_each_token_has_what_every_loop_expected_in_its_place(loops: int) -> None:
    model, token_BT = tiny(), tokens(9)
    ids = token_BT[0].tolist()
    row = read_passage(model, ids, str, source(model), document="doc", loops=loops, top=4)
    assert (row.document, row.loops) == ("doc", loops)
    assert [token.text for token in row.tokens] == [str(i) for i in ids]
    first = row.tokens[0]
    assert first.shift == first.entropy == first.rank == first.probability == first.candidates == []
    p_RTV = torch.stack(
        [model.lm_head(h[0]).softmax(-1) for h in model(token_BT, num_loops=loops).loop_states]
    ).detach()
    for t, token in enumerate(row.tokens[1:]):
        p_RV, own = p_RTV[:, t], ids[t + 1]
        assert token.probability == pytest.approx(p_RV[:, own].tolist(), abs=WRITTEN)
        assert token.rank == [1 + int((p > p[own]).sum()) for p in p_RV]
        entropy = -(p_RV * p_RV.log()).sum(-1)
        assert token.entropy == pytest.approx(entropy.tolist(), abs=WRITTEN)
        shift = (p_RV[1:] * (p_RV[1:] / p_RV[:-1]).log()).sum(-1)
        assert token.shift == pytest.approx(shift.tolist(), abs=WRITTEN)
        for loop in range(loops):
            best = p_RV[loop].topk(4)
            found = token.candidates[loop]
            assert [each.text for each in found] == [str(i) for i in best.indices.tolist()]
            probabilities = [each.probability for each in found]
            assert probabilities == pytest.approx(best.values.tolist(), abs=WRITTEN)


def test_a_passage_longer_than_a_block_of_candidates() -> None:
    model, ids = tiny(), tokens(150)[0].tolist()
    row = read_passage(model, ids, str, source(model), document="doc")
    assert len(row.tokens) == 150
    assert all(len(token.candidates) == 3 for token in row.tokens[1:])


def test_a_loop_count_that_cannot_run_is_refused() -> None:
    model = tiny(plt_num_loops=1)
    with pytest.raises(RequestError, match="loops is 2"):
        read_passage(model, [1, 2, 3], str, source(model), document="doc", loops=2)


@pytest.mark.parametrize("ids", [[], [5]])
def test_a_passage_of_which_nothing_is_predicted_is_refused(ids: list[int]) -> None:
    model = tiny()
    with pytest.raises(RequestError, match=f"passage doc has {len(ids)} tokens; give two or more"):
        read_passage(model, ids, str, source(model), document="doc")
