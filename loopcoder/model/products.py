"""The engine's seam in the model: linears that read the same input, as one prepared product.

Training, the transformers classes and the oracle run plain `nn.Linear` modules under the released
names. `fuse` gives every group of linears one product over their stacked weights, which the
linears' own parameters then look into, so that nothing is held twice. `install` puts quantised
weights in their place. The layer's mathematics (`layers.py`) is the same for all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from loopcoder.kernels.grouped import GroupedWeight, concatenate
from loopcoder.kernels.linear import (
    NativeBf16Product,
    NativeGroupedProduct,
    Product,
    prepare,
)
from loopcoder.kernels.memory import empty_in_huge_pages
from loopcoder.kernels.norm import rms_norm
from loopcoder.model.config import ModelConfig
from loopcoder.model.layers import HiddenStateGate

if TYPE_CHECKING:
    from loopcoder.model.plt import PLT


class FusedLinears:
    """Linears of one input as one product; their weights are stacked along the output."""

    def __init__(self, product: Product, sizes: Sequence[int]) -> None:
        self.product = product
        self.sizes = tuple(sizes)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """[.., in] to each linear's [.., out], which are views of one result."""
        parts: tuple[Tensor, ...] = self.product(x).split(self.sizes, dim=-1)
        return parts


class PreparedLinear(nn.Module):
    """One linear as a prepared product, beside its float weight or, if quantised, without."""

    def __init__(self, product: Product, weight: nn.Parameter | None) -> None:
        super().__init__()
        self.product = product
        self.register_parameter("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """[.., in] to [.., out]."""
        return self.product(x)


class PreparedNorm(nn.Module):
    """An `nn.RMSNorm` by the fastest kernel there is."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.weight = norm.weight
        assert norm.eps is not None
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """[.., D] to [.., D]."""
        return rms_norm(x, self.weight, self.eps)


@dataclass(frozen=True, kw_only=True)
class LinearGroup:
    """Linears of the submodule `module` that read one input; several meet in its `fused`."""

    module: str
    linears: tuple[str, ...]
    fused: str | None = None

    @property
    def weights(self) -> tuple[str, ...]:
        """The released names of the weights, in the order in which they are stacked."""
        prefix = f"{self.module}." if self.module else ""
        return tuple(f"{prefix}{linear}.weight" for linear in self.linears)


def linear_groups(config: ModelConfig) -> Iterator[LinearGroup]:
    """Every matrix that may be quantised, in model order.

    The gates' are not: they have H rows, a thousandth of a layer's weights.
    """
    for index in range(config.num_hidden_layers):
        attention, mlp = f"model.layers.{index}.self_attn", f"model.layers.{index}.mlp"
        yield LinearGroup(module=attention, linears=("q_proj", "k_proj", "v_proj"), fused="qkv")
        yield LinearGroup(module=attention, linears=("o_proj",))
        yield LinearGroup(module=mlp, linears=("gate_proj", "up_proj"), fused="gate_up")
        yield LinearGroup(module=mlp, linears=("down_proj",))
    yield LinearGroup(module="", linears=("lm_head",))


def fuse(model: "PLT") -> None:
    """Prepare every product of a model, in place, for inference.

    The state dict keeps names and values. On a CPU every matrix moves into large pages, which are
    read faster than a mapped file's; a head that is the embedding stays. Groups are copied one
    after another, so that at most one matrix is held beside the weights. Quantised linears, which
    are prepared already, stay as they are. Weights that are assigned, converted or moved
    afterwards no longer reach the products: fuse last.
    """
    for group in linear_groups(model.config):
        _fuse_group(model, group)
    for module in list(model.modules()):
        if isinstance(module, HiddenStateGate):
            module.product = prepare(module.weight.detach())
        for name, child in module.named_children():
            if isinstance(child, nn.RMSNorm):
                setattr(module, name, PreparedNorm(child))


def _fuse_group(model: "PLT", group: LinearGroup) -> None:
    module = model.get_submodule(group.module)
    linears = [getattr(module, name, None) for name in group.linears]
    plain = [linear for linear in linears if isinstance(linear, nn.Linear)]
    if not plain or (group.fused and getattr(module, group.fused)):
        return
    tied = plain[0].weight is model.model.embed_tokens.weight
    stacked = plain[0].weight.detach() if tied else _stack(plain)
    if group.fused:
        sizes = [linear.out_features for linear in plain]
        setattr(module, group.fused, FusedLinears(prepare(stacked), sizes))
    else:
        weight = plain[0].get_parameter("weight")
        setattr(module, group.linears[0], PreparedLinear(prepare(stacked), weight))


def install(model: "PLT", group: LinearGroup, weights: Sequence[GroupedWeight]) -> None:
    """Put quantised `weights`, one a linear, in the place of the linears of `group`."""
    module = model.get_submodule(group.module)
    for name in group.linears:
        delattr(module, name)
    if group.fused:
        sizes = [weight.shape[0] for weight in weights]
        setattr(module, group.fused, FusedLinears(prepare(concatenate(weights)), sizes))
    else:
        setattr(module, group.linears[0], PreparedLinear(prepare(weights[0]), None))


def products(model: "PLT") -> dict[str, Product]:
    """The products of a fused or quantised model, by module: "model.layers.0.mlp.gate_up"."""
    return {name: holder.product for name, holder in _holders(model)}


def invariant_products(model: "PLT") -> list[NativeBf16Product | NativeGroupedProduct]:
    """The products that can be made independent of the number of rows, at some speed."""
    gates = [m.product for m in model.modules() if isinstance(m, HiddenStateGate)]
    found = [*products(model).values(), *gates]
    return [p for p in found if isinstance(p, NativeBf16Product | NativeGroupedProduct)]


def replace_products(model: "PLT", replacement: Callable[[Product], Product]) -> None:
    """Put `replacement(product)` in the place of every product, to measure or to restrict it."""
    for _, holder in _holders(model):
        holder.product = replacement(holder.product)


def _holders(model: "PLT") -> Iterator[tuple[str, FusedLinears | PreparedLinear]]:
    for group in linear_groups(model.config):
        name = group.fused or group.linears[0]
        holder = getattr(model.get_submodule(group.module), name)
        if isinstance(holder, FusedLinears | PreparedLinear):
            yield f"{group.module}.{name}".lstrip("."), holder


def _stack(linears: Sequence[nn.Linear]) -> Tensor:
    """The weights in one new tensor, into which the linears' parameters look from now on."""
    sizes = [linear.out_features for linear in linears]
    first = linears[0].weight.detach()
    shape = (sum(sizes), linears[0].in_features)
    on_cpu = first.device.type == "cpu"
    stacked = empty_in_huge_pages(*shape, dtype=first.dtype) if on_cpu else first.new_empty(shape)
    for linear, rows in zip(linears, stacked.split(sizes), strict=True):
        rows.copy_(linear.weight.detach())
        linear.weight = nn.Parameter(rows, requires_grad=False)  # releases the original
    return stacked
