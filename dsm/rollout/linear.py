"""Linear maps that only ever run forward, in the layout that runs fastest where they are.

In fp32 on a CPU that is oneDNN's: weights are reordered once, and products are 2.3 times as fast as `F.linear` on
processors where that goes to a library tuned for others (MKL on AMD), and as fast elsewhere. It also keeps a row's bits
the same from two rows up and on any number of threads; `F.linear` changes kernels below sixteen rows, and on several
threads. The operations are private to PyTorch: what they offer is looked up on import, and `F.linear` steps in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 32
"""Numbers of rows that are multiples of this leave every row's bits alone: products keep to one kernel (from 16 rows on
in either layout), and elementwise operations meet no remainder of a vector, which they would compute in another way."""


def _can_pack() -> bool:
    """Whether this PyTorch has the private operations, and they do here what is expected of them."""
    try:
        weight, x = torch.eye(3)[:2].clone(), torch.ones(2, 3)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        plain = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        added = torch.ops.mkldnn._linear_pointwise.binary(x, plain, packed, None, "add")
        return torch.equal(plain, x @ weight.T) and torch.equal(added, 2 * plain)
    except Exception:  # whatever a release without them, or with others of the same name, has to say
        return False


CAN_PACK = _can_pack()


class Linear:
    """x -> x W^T + bias (+ other), for a weight (out, in) that is copied."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, rows: int = 256) -> None:
        self.packed = CAN_PACK and weight.device.type == "cpu" and weight.dtype == torch.float32
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows) if self.packed else weight
        self.bias = bias

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(T, in) -> (T, out)."""
        if not self.packed:
            y = F.linear(x, self.weight, self.bias)
            return y if add is None else y.add_(add)
        if add is None:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return torch.ops.mkldnn._linear_pointwise.binary(x, add, self.weight, self.bias, "add")
