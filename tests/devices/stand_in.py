# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A device that computes on the CPU and counts as another one: what breaks on a GPU breaks here, too.

It takes PyTorch's slot for devices of others, PrivateUse1. Its tensors wrap tensors of the CPU; an operation on them is
done with what they wrap. Operations that mix devices are refused, and whatever makes the host wait for a GPU is noted.

A process that has called :func:`register` keeps the device, and its tensors are no tensors of torchvision, which takes
no subclass but its own. So tests use it in a process of their own. PyTorch's ``FakeTensorMode`` would need no process,
but has no values, also on the host, where augmentations draw sizes by design; ``meta`` refuses autocast.
"""

import traceback
import types
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
"""Name of the device."""

PACKAGE = "anomalib_ssl/"
"""Only waits that the package's own code asks for are noted, by the innermost of its lines."""

aten = torch.ops.aten

COPIES = {aten._to_copy, aten.copy_, aten._copy_from}
"""Operations that may take tensors of two devices."""

READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim}
"""Operations whose result, or its size, the host has to know."""

INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""Operations that wait where indices are masks."""

waits: list[str] = []
"""What made the host wait so far: operation, file and line."""


class StandIn(torch.Tensor):
    """A tensor of the device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "StandIn":
        """Wrap a tensor of the CPU."""
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        tensor.held = held
        return tensor

    def as_subclass(self, _: type) -> "StandIn":
        """Stay what it is."""
        return self

    def __repr__(self) -> str:
        """Show the shape, without a wait."""
        return f"StandIn({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what PyTorch asks for."""
        del kinds
        return compute(function, args, kwargs or {})


def compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation on the CPU, as if on the device."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    operation, wrapped = function.overloadpacket, [tensor for tensor in tensors if isinstance(tensor, StandIn)]
    if operation not in COPIES and wrapped and any(t.dim() > 0 for t in tensors if not isinstance(t, StandIn)):
        shapes = [f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors]
        msg = f"{function} mixes devices: {shapes}."
        raise RuntimeError(msg)
    device = kwargs.get("device")
    to_host = (device is not None and torch.device(device).type == "cpu") or (
        operation is aten.copy_ and not isinstance(args[0], StandIn)
    )
    masked = operation in INDEXED and any(index is not None and index.dtype == torch.bool for index in args[1])
    if operation in READS or masked or (to_host and wrapped and not kwargs.get("non_blocking")):
        _note(str(operation))
    if device is not None:
        kwargs = {**kwargs, "device": "cpu"}
    given = {id(tensor.held): tensor for tensor in wrapped}
    result = function(
        *tree_map(_held, args),
        **{name: tree_map(_held, value) for name, value in kwargs.items() if name != "pin_memory"},
    )
    # What an operation in place gives is what it was given.
    return tree_map(lambda value: value if to_host else _wrap(value, given), result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, StandIn) else value


def _wrap(value: Any, given: dict[int, StandIn]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return given[id(value)] if id(value) in given else StandIn(value)


def _note(operation: str) -> None:
    own = [frame for frame in traceback.extract_stack() if PACKAGE in frame.filename]
    if own:
        waits.append(f"{operation} in {own[-1].filename.rsplit(PACKAGE, 1)[1]}, line {own[-1].lineno}")


def register() -> None:
    """Let this process have the device."""
    module = types.ModuleType(f"torch.{NAME}")
    module.__dict__.update(
        is_available=lambda: True,
        is_initialized=lambda: True,
        _is_in_bad_fork=lambda: False,
        device_count=lambda: 1,
        current_device=lambda: 0,
        manual_seed_all=lambda _: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
    )
    _setup_privateuseone_for_python_backend(NAME, backend_module=module)
    library = torch.library.Library("aten", "IMPL")
    # These have no tensor among their arguments by which PyTorch would know whom to ask.
    for name, function in _factories():
        library.impl(name, _kernel(function), "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    module.__dict__["library"] = library  # lives as long as what it registers
    # Parameters cannot change their kind in place.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.Generator = _Generator  # type: ignore[misc]


def _factories() -> list[tuple[str, Any]]:
    found = []
    for full in torch._C._dispatch_get_all_op_names():
        space, _, name = full.partition("::")
        packet, _, overload = name.partition(".")
        if space != "aten" or any(word in packet for word in ("sparse", "quantized", "nested", "from_file")):
            continue
        function = getattr(getattr(aten, packet, None), overload or "default", None)
        schema = getattr(function, "_schema", None)
        if schema is None or [str(result.type) for result in schema.returns] != ["Tensor"]:
            continue
        takes = {argument.name: str(argument.type) for argument in schema.arguments}
        if "device" in takes and not any("Tensor" in kind for kind in takes.values()):
            found.append((name, function))
    return found


def _kernel(function: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: compute(function, args, kwargs)


_GENERATOR = torch.Generator


class _Generator(torch.Generator):
    """Random numbers of the device are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        """Make a generator of PyTorch's."""
        return _GENERATOR.__new__(_GENERATOR, "cpu" if torch.device(device).type == NAME else device)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> Any:
    return compute(aten.copy_.default, (target, source), {"non_blocking": non_blocking})


class Accelerator(CPUAccelerator):
    """What Lightning has to know of the device."""

    def setup_device(self, device: torch.device) -> None:
        """Take any."""


def strategy() -> SingleDeviceStrategy:
    """A strategy that trains on the device."""
    return SingleDeviceStrategy(device=torch.device(NAME, 0), accelerator=Accelerator())
