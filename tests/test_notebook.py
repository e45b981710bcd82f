"""The notebook of docs/examples runs from top to bottom and shows what the model does."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch.nn.functional import cross_entropy

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.model.plt import PLT

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "examples" / "probes.ipynb"

# Run after the notebook's own cells: what they computed, for the checks below.
ASIDE = """
import json

values = {
    "passage": token_BT[0].tolist(),
    "passage_loss": [tokens[f"loss {loop}"].mean() for loop in (1, 2)],
    "documents": {sample.document: list(sample.token_ids) for sample in draw},
    "loop_1_keys_only": losses(1.0).to_dict(),
    "own_window_only_in_layer_2": losses(0.0, only=2).to_dict(),
    "by_loop": by_loop[by_loop["measure"] == "loss"]["mean"].tolist(),
}
print(json.dumps(values, default=float))  # numpy's numbers are not JSON's
"""


@dataclass(frozen=True)
class Executed:
    notebook: Any
    values: dict[str, Any]  # what ASIDE printed


def _execute(home: Path) -> Executed:
    """Run it in a kernel of this environment, with one thread and no settings of the user's."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(ASIDE, id="aside"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
            patch.setenv(name, str(home / name.lower()))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        client = NotebookClient(notebook, timeout=300, kernel_name="python3")
        client.execute(cwd=str(home), env=environment)
    (said,) = notebook.cells.pop().outputs
    return Executed(notebook, json.loads(said.text))


def _nats(model: PLT, token_ids: list[int], loops: int = 2) -> float:
    token_BT = torch.tensor([token_ids])
    with torch.no_grad():
        logits_TV = model(token_BT, num_loops=loops).logits[0, :-1]
    return cross_entropy(logits_TV, token_BT[0, 1:]).item()


def _nano() -> PLT:
    return load_model(locate("loopcoder-nano"), dtype="float32")


def _numbers(cell: Any) -> list[float]:
    """The decimal numbers that a cell shows, row by row."""
    shown = [o.data.get("text/html", o.data["text/plain"]) for o in cell.outputs if "data" in o]
    return [float(number) for number in re.findall(r"-?\d+\.\d+", "".join(shown))]


def test_the_stored_notebook_is_a_clean_run() -> None:
    cells = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type in ("stream", "error")]
    assert NOTEBOOK.stat().st_size < 300_000


def test_links_lead_somewhere() -> None:
    prose = "".join(c.source for c in nbformat.read(NOTEBOOK, as_version=4).cells)
    targets = re.findall(r"\]\(([^)#\s]+)\)", prose)
    assert len(targets) >= 2
    for target in targets:
        assert (NOTEBOOK.parent / target).exists(), target


@pytest.mark.slow
def test_it_runs_and_shows_what_the_model_does(tmp_path: Path) -> None:
    """One test, so that a test run in several processes executes the notebook once."""
    executed = _execute(tmp_path)
    _check_stored_numbers(executed.notebook)
    _check_losses(executed.values)
    _check_forced_gates(executed.values, "loop_1_keys_only", (0, 1, 2, 3), 40.0)
    _check_forced_gates(executed.values, "own_window_only_in_layer_2", (2,), -40.0)


def _check_stored_numbers(notebook: Any) -> None:
    """Of the passage in it; the other texts, Python's own modules, differ between versions."""
    stored = {cell.id: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    same = [cell for cell in notebook.cells if "passage" in cell.metadata.get("tags", ())]
    numbers = {cell.id: _numbers(cell) for cell in same}
    assert sum(map(len, numbers.values())) > 40
    for name, shown in numbers.items():
        # Shown are 2 or 3 decimals, of float32 sums whose order depends on the machine.
        assert shown == pytest.approx(_numbers(stored[name]), abs=0.011, rel=1e-3), name


def _check_losses(values: dict[str, Any]) -> None:
    """Of each loop, from lens and probe, against the model run with as many loops."""
    model = _nano()
    for i, loops in enumerate((1, 2)):
        expected = _nats(model, values["passage"], loops)
        assert values["passage_loss"][i] == pytest.approx(expected, abs=1e-4)
        nats = [_nats(model, ids, loops) for ids in values["documents"].values()]
        assert values["by_loop"][i] == pytest.approx(sum(nats) / len(nats), abs=1e-4)


def _check_forced_gates(
    values: dict[str, Any], name: str, layers: tuple[int, ...], bias: float
) -> None:
    """A tap that returns 1 or 0 against weights whose sigmoid is 1 or 4e-18."""
    model = _nano()
    untouched = {d: _nats(model, ids) for d, ids in values["documents"].items()}
    for layer in layers:
        gate: Any = model.model.layers[layer].self_attn.plt_gate
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.constant_(gate.bias, bias)
    expected = {d: _nats(model, ids) for d, ids in values["documents"].items()}
    assert values[name] == pytest.approx(expected, abs=1e-4)
    assert values[name] != pytest.approx(untouched, abs=1e-3)
