"""A GPU that is not there: CUDA tensors without data, and a list of what would make the host wait for them.

Tensors on the host are real and compute; those on "cuda" have shapes, types and strides but no values
(`FakeTensorMode`). Where the host asks the device for a value, or for a size that depends on values, it would have to
wait until the device has done everything that is queued. Each such place is listed, and an invented answer given.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any

from pretrain.parts.upload import STAGED_BYTES

ANSWER = 2
"""Every number that the device is asked for. With it no count is zero, and none is one."""
CODE = Path(__file__).parents[2] / "pretrain"

aten = torch.ops.aten
PINNING = {aten.is_pinned, aten._pin_memory}
COPIES = {aten._to_copy, aten.copy_}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
SIZED_BY_VALUES = {aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.unique_consecutive}
SIZED_BY_VALUES |= {aten.bincount, aten.repeat_interleave}


class FakeCUDA(TorchDispatchMode):
    """Runs what concerns the host alone for real, and what concerns "cuda" without data. Enter it by `fake_cuda`.

    `waits` holds an entry for each place where the host would wait: what for, and the line of `pretrain` that did it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: list[str] = []
        self._pinned: dict[int, Tensor] = {}
        """Addresses in page-locked memory, each with a tensor that keeps it from being used anew."""

    def pin(self, x: Tensor) -> Tensor:
        """Take the host's tensor `x` for page-locked."""
        self._pinned[x.untyped_storage().data_ptr()] = x
        return x

    def move(self, module: nn.Module) -> nn.Module:
        """Parameters and buffers of `module`, in place, to "cuda"; a list of waits starts anew."""
        moved: dict[int, Tensor] = {}  # shared parameters stay shared
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None and not is_cuda(parameter):
                    if id(parameter) not in moved:
                        moved[id(parameter)] = nn.Parameter(parameter.detach().to("cuda"), parameter.requires_grad)
                    part._parameters[name] = moved[id(parameter)]  # type: ignore[assignment]
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else buffer.to("cuda")
        self.waits.clear()
        return module

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, func.overloadpacket
        if packet in PINNING:
            return self._pin_memory(packet, args[0])
        if not on_cuda(kwargs) and not tree_any(is_cuda, (args, kwargs)):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if packet is aten._local_scalar_dense:
            self._wait("a value")
            return True if args[0].dtype == torch.bool else float(ANSWER) if args[0].is_floating_point() else ANSWER
        if packet is aten.equal:
            self._wait("a comparison")
            return True
        if packet in SIZED_BY_VALUES:
            self._wait(f"the size of {packet}")
            if packet is not aten.nonzero:
                raise NotImplementedError(f"there is no invented answer for {packet}")
            return args[0].new_zeros(ANSWER, args[0].ndim, dtype=torch.int64)
        if packet in COPIES:
            answer = self._copied(packet, args, kwargs)
            if answer is not None:
                return answer
        if packet in INDEXING:
            args = (args[0], self._positions(packet, args), *args[2:])
        return func(*args, **kwargs)

    def _pin_memory(self, packet: Any, x: Tensor) -> Any:
        pinned = x.untyped_storage().data_ptr() in self._pinned
        if packet is aten.is_pinned:
            return pinned
        with unset_fake_temporarily():
            return x if pinned else self.pin(x.clone())

    def _copied(self, packet: Any, args: Any, kwargs: Any) -> Tensor | None:
        """Lists a copy between host and device that blocks; what a copy to the host gives."""
        source = args[1] if packet is aten.copy_ else args[0]
        to_cuda = is_cuda(args[0]) if packet is aten.copy_ else on_cuda({"device": source.device} | kwargs)
        if is_cuda(source) and not to_cuda:
            self._wait("a copy to the host")
            with unset_fake_temporarily():
                if packet is aten.copy_:
                    return args[0].fill_(ANSWER)
                return torch.full(source.shape, ANSWER, dtype=kwargs.get("dtype") or source.dtype)
        if not is_cuda(source) and to_cuda:
            blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            pageable = source.untyped_storage().data_ptr() not in self._pinned
            if blocking or (pageable and source.nbytes > STAGED_BYTES):
                self._wait(f"a copy of {source.nbytes} bytes to the device")
        return None

    def _positions(self, packet: Any, args: Any) -> list[Tensor | None]:
        """Indices, with masks among them as the positions where they hold: how many these are, only the device knows.

        One number written where a single mask holds needs no positions.
        """
        masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
        if packet is not aten.index and len(masks) == 1 and args[2].numel() == 1:
            return args[1]
        found: list[Tensor | None] = []
        for index in args[1]:
            if any(index is mask for mask in masks):
                self._wait("the size of a mask")
                found += [torch.zeros(ANSWER, dtype=torch.int64, device="cuda")] * index.ndim
            else:
                if index is not None and not is_cuda(index):
                    self._wait("a copy of indices to the device")
                found.append(index)
        return found

    def _wait(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(CODE)]
        line = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].line}" if frames else "a test"
        self.waits.append(f"{what}: {line}")


def is_cuda(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.type == "cuda"


def on_cuda(options: dict[str, Any]) -> bool:
    return torch.device(options.get("device") or "cpu").type == "cuda"


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCUDA]:
    """Makes "cuda" a device without data in the block."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    mode, lifts = FakeCUDA(), torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # lets `torch.tensor(list, device="cuda")` be seen as a copy
    try:
        with mode.fake, mode:
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)


@torch.no_grad()
def backward(loss: Tensor) -> None:
    """As `loss.backward()`, node by node: PyTorch's engine asks the driver even where tensors have no data."""
    edges: dict[Any, int] = {}  # into a node, whose gradients have not come yet
    found, stack = {loss.grad_fn}, [loss.grad_fn]
    while stack:
        for node, _ in stack.pop().next_functions:  # type: ignore[union-attr]
            edges[node] = edges.get(node, 0) + 1
            if node is not None and node not in found:
                found.add(node)
                stack.append(node)
    gradients: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {loss.output_nr: torch.ones_like(loss)}}
    ready: list[Any] = [loss.grad_fn]
    while ready:
        node = ready.pop()
        given = gradients.pop(node, {})
        if hasattr(node, "variable"):
            if given:
                node.variable.grad = given[0] if node.variable.grad is None else node.variable.grad + given[0]
            continue
        sent = _sent(node, given) if given else [None] * len(node.next_functions)
        for (target, number), gradient in zip(node.next_functions, sent, strict=True):
            if target is None:
                continue
            if gradient is not None:
                expected, kept = target._input_metadata[number], gradients.setdefault(target, {})
                gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
                kept[number] = kept[number] + gradient if number in kept else gradient
            edges[target] -= 1
            if not edges[target]:
                ready.append(target)


def _sent(node: Any, given: dict[int, Tensor]) -> list[Tensor | None]:
    """What `node` sends along each of its edges."""
    arguments = [given.get(number) for number in range(len(node._input_metadata))]
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        sent = node(*arguments)
        return list(sent) if isinstance(sent, tuple) else [sent]
    returned = node.apply(*arguments)  # one for each argument of forward; edges are those of tensors alone
    wanted = iter(g for g, needed in zip(returned, node.needs_input_grad, strict=True) if needed)
    return [None if target is None else next(wanted) for target, _ in node.next_functions]
