"""An accelerator that is none: tensors with its device and real numbers underneath, and everybody who mixes up devices told.

Operations run on the CPU; what would be a copy to the host or a wait for the device is counted.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")


class OnDevice(torch.Tensor):
    """A tensor that says it lives on the accelerator."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=DEVICE, requires_grad=False
        )

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the accelerator")

    def __repr__(self):
        return f"OnDevice({tuple(self.shape)})"


class Accelerator(TorchDispatchMode):
    """Counts while it is active.

    Attributes:
        copies: names of operations that brought numbers to the host.
        syncs: names of operations that waited for a single number.
        doubles: operations with float64, which some devices do not have.
        sent: copies from the host to the device.
    """

    def __init__(self):
        super().__init__()
        self.copies, self.syncs, self.doubles, self.sent = [], [], [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        here = [t for t in tensors if isinstance(t, OnDevice)]
        target, name = kwargs.get("device"), func.overloadpacket.__name__
        moving = name in ("_to_copy", "copy_")
        if here and not moving:
            mixed = [t for t in tensors if not isinstance(t, OnDevice) and t.dim()]
            assert not mixed, f"{name} mixes devices: {[tuple(t.shape) for t in tensors]}"
        onto = bool(here) if target is None else torch.device(target).type == DEVICE.type
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        if here and not onto:
            self.copies.append(name)
        if not here and onto and tensors:
            self.sent += 1
        if here and name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.syncs.append(name)
        inner = tree_map(lambda t: t.inner if isinstance(t, OnDevice) else t, (args, kwargs))
        if name == "copy_" and here and not isinstance(args[0], OnDevice):
            self.copies.append(name)
        with _disable_current_modes():
            if name == "_scaled_dot_product_fused_attention_overrideable":
                func = torch.ops.aten._scaled_dot_product_attention_math
            out = func(*inner[0], **inner[1])
        if name == "copy_" or (name.endswith("_") and isinstance(args[0], OnDevice)):
            return args[0]
        if not onto:
            return out
        found = [t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
        self.doubles += [name for t in found if t.dtype == torch.float64]
        return tree_map(lambda t: OnDevice(t) if isinstance(t, torch.Tensor) else t, out)


def moved(module):
    """The module with its parameters and buffers on the accelerator."""
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for key, value in table.items():
                if value is not None:
                    data = OnDevice(value.detach())
                    table[key] = torch.nn.Parameter(data, False) if table is part._parameters else data
    return module
