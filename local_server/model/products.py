"""Matrix products whose rows are the same bits whatever else is in the pass.

How a product is rounded depends on the order in which its terms are added, and a kernel may choose that order by
the number of rows. So every call has a multiple of ROWS rows (the pass and the logits see to that), and each size
of weights is tried once: where the number of rows, or a row's place, changes a bit on this CPU, its calls have
exactly TILE rows (as in "Defeating Nondeterminism in LLM Inference", Thinking Machines, 2025).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, pad

ROWS = 8  # smaller numbers take other paths through the kernels
TILE = 32
TRIED = (8, 16, 24, 40, 64, 128, 200, 256)  # numbers of rows whose products are compared
TRIED_OUTPUTS = 1 << 24  # of one product that is compared: a vocabulary of 262,144 is tried with 64 rows
GRAIN = 1 << 15  # elements that torch gives to one thread of an elementwise function at least

_any_rows: dict[tuple[int, int, torch.dtype, int], bool] = {}


def up(count: int, multiple: int = ROWS) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


class PackedWeights:
    """(outputs, inputs) weights in the layout that the CPU's kernels want, so that no call reorders them."""

    def __init__(self, weight: torch.Tensor, *, invariant: bool = False) -> None:
        self.outputs, self.inputs = weight.shape
        self.packed = self.plain = None
        if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        else:
            self.plain = weight.detach()
        self.tile: int | None = None
        if not invariant:
            return
        key = (self.outputs, self.inputs, weight.dtype, torch.get_num_threads())
        if key not in _any_rows:
            _any_rows[key] = self._tried(weight.dtype)
        self.tile = None if _any_rows[key] else TILE

    def __call__(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """x: (..., inputs) in the weights' type."""
        if self.tile is None:
            return self._product(x, bias)
        flat = x.flatten(0, -2)
        padded = pad(flat, (0, 0, 0, -len(flat) % self.tile))
        parts = [self._product(part, bias) for part in torch.split(padded, self.tile)]
        return torch.cat(parts)[: len(flat)].view(*x.shape[:-1], -1)

    def _product(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.plain is not None:
            return linear(x, self.plain, bias)
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, bias, "none", [], "")
        return y

    def _tried(self, dtype: torch.dtype) -> bool:
        """Whether a row's product is the same bits in calls of other sizes and in other places."""
        most = max(2 * ROWS, min(TRIED[-1], TRIED_OUTPUTS // self.outputs))
        x = torch.randn(most, self.inputs, generator=torch.Generator().manual_seed(0)).to(dtype)
        whole = self._product(x, None)
        moved = self._product(x.roll(3, 0), None).roll(-3, 0)
        return torch.equal(moved, whole) and all(
            torch.equal(self._product(x[:count], None), whole[:count]) for count in TRIED if count < most
        )


class PackedLinear(nn.Module):
    """Float32 throughout."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, invariant: bool = False) -> None:
        super().__init__()
        self.weights = PackedWeights(weight, invariant=invariant)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weights(x, self.bias)


class EvenActivation(nn.Module):
    """An elementwise function, computed over pieces that threads share in whole vectors.

    Vectors and the elements left over at a thread's end round differently in functions such as SiLU, and where a
    thread ends depends on the size of the pass.
    """

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten()
        grains, rest = divmod(len(flat), GRAIN)
        full = grains // torch.get_num_threads() * torch.get_num_threads()
        sizes = [size for size in (full * GRAIN, (grains - full) * GRAIN, rest) if size]
        if len(sizes) < 2:
            y: torch.Tensor = self.function(x)
            return y
        return torch.cat([self.function(part) for part in torch.split(flat, sizes)]).view_as(x)


def pack(model: Any) -> None:
    """Replace the linear layers of a float32 `model` by packed ones, in place."""
    for _, parent in parents(model):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, PackedLinear(layer.weight, layer.bias, invariant=True))


def even_activations(model: nn.Module) -> None:
    """Wrap the activations of the feed-forward blocks. Two threads divide any pass evenly as it is."""
    if torch.get_num_threads() <= 2:
        return
    for _, parent in parents(model):
        layer = getattr(parent, "act_fn", None)
        if isinstance(layer, nn.Module):
            parent.act_fn = EvenActivation(layer)


def parents(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(path, module) of all that have children; the leaves stay out, or the list would keep the replaced ones."""
    return [(path, module) for path, module in model.named_modules() if next(module.children(), None) is not None]
