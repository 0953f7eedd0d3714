"""Batch norm over other images than this process's part of a batch: over smaller parts, or over all processes."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.errors import PretrainError
from pretrain.parts.distributed import gather, world_size

Module = TypeVar("Module", bound=nn.Module)


def synchronised(module: Module) -> Module:
    """`module` with every plain batch norm taking its statistics from the batches of all processes.

    Forward, gradients and running statistics are then those of one process with the whole batch; NCCL and Gloo both
    serve. Parameters, buffers and their names stay. With one process the module is returned as it is; otherwise its
    batch norms are replaced in place (a batch norm itself is returned replaced).
    """
    if world_size() == 1:
        return module
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return SynchronisedBatchNorm(module)  # type: ignore[return-value, arg-type]  # a batch norm for a batch norm
    for name, child in module.named_children():
        setattr(module, name, synchronised(child))
    return module


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm of (n, C, ...) over the batches of all processes, in training; sizes n may differ between them.

    On a GPU by the kernels of `nn.SyncBatchNorm`, which exist nowhere else. Which ones is decided by the input: modules
    are converted as they are built, before they move to their device.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (n, C, ...)."""
        if not self.training:
            return super().forward(input)
        share = _counted(self)
        if has_kernels(input):
            return _FusedGlobalNorm.apply(
                input, self.weight, self.bias, self.running_mean, self.running_var, self.eps, share
            )
        output, mean, variance, count = _GlobalNorm.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * (count / (count - 1)), share)
        return output

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm needs at least 2 dimensions, not {input.dim()}")


def _counted(norm: _BatchNorm) -> float:
    """Count a batch; the share of its statistics in the running ones, by PyTorch's rule: the momentum, or without one
    that which makes them the mean over all batches.
    """
    if norm.num_batches_tracked is None:  # there are no running statistics
        return 0.0
    norm.num_batches_tracked.add_(1)
    return 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels of `nn.SyncBatchNorm` exist where `x` is."""
    return x.is_cuda


class _GlobalNorm(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) * weight + bias with the statistics of all processes.

    The derivative with respect to x sums over processes what their losses send back through the statistics. Those of
    weight and bias stay this process's own: the average over processes that the weights' gradients undergo is theirs,
    too.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float):  # type: ignore[no-untyped-def]
        dims = [d for d in range(x.dim()) if d != 1]
        full = torch.promote_types(x.dtype, torch.float32)
        variance, mean = torch.var_mean(x.to(full), dims, correction=0)
        count = mean.new_full((1,), x.numel() / x.shape[1])
        table = gather(torch.cat([mean, variance, count])[None])
        channels = x.shape[1]
        means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
        share = counts / counts.sum()
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        with torch.autocast(x.device.type, enabled=False):
            y = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), counts.sum())
        ctx.affine = bias is not None
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance, counts.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor, *_: Tensor):  # type: ignore[no-untyped-def]
        x, weight, mean, scale, count = ctx.saved_tensors
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        dy_full = dy.to(mean.dtype)
        normalised = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([dy_full.sum(dims), (dy_full * normalised).sum(dims)])
        d_bias, d_weight = sums.unbind()
        if ctx.affine:
            d_weight, d_bias = d_weight.to(weight.dtype, copy=True), d_bias.to(weight.dtype, copy=True)
        dist.all_reduce(sums)
        sums /= count
        factor = scale if weight is None else scale * weight.to(scale.dtype)
        dx = (dy_full - sums[0].view(shape) - normalised * sums[1].view(shape)) * factor.view(shape)
        return dx.to(x.dtype), d_weight if ctx.affine else None, d_bias if ctx.affine else None, None


class _FusedGlobalNorm(torch.autograd.Function):
    """The same as `_GlobalNorm` with running statistics, on a GPU.

    These are the kernels of `nn.SyncBatchNorm` in the order of its own function, which cannot be used: it leaves out
    processes with empty batches by a mask, and so makes the host wait for the device three times a layer.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        eps: float,
        momentum: float,
    ):
        x, channels = _dense(x), x.shape[1]
        mean, inverse_std = torch.batch_norm_stats(x, eps)
        count = mean.new_full((1,), x.numel() / channels)
        table = gather(torch.cat([mean, inverse_std, count])[None])
        means, inverse_stds, counts = torch.split(table, [channels, channels, 1], dim=1)
        mean, inverse_std = torch.batch_norm_gather_stats_with_counts(
            x, means, inverse_stds, running_mean, running_var, momentum, eps, counts.flatten()
        )
        ctx.save_for_backward(x, weight, mean, inverse_std, counts.to(torch.int32))
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse_std, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):  # type: ignore[no-untyped-def]
        x, weight, mean, inverse_std, counts = ctx.saved_tensors
        dy = _dense(dy)
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        sum_dy, sum_dy_x, d_weight, d_bias = torch.batch_norm_backward_reduce(
            dy, x, mean, inverse_std, weight, need_x, need_weight, need_bias
        )
        dx = None
        if need_x:
            sums = torch.cat([sum_dy, sum_dy_x])
            if world_size() > 1:
                dist.all_reduce(sums)
            sum_dy, sum_dy_x = sums.chunk(2)
            scale = None if weight is None else weight.to(mean.dtype)
            dx = torch.batch_norm_backward_elemt(dy, x, mean, inverse_std, scale, sum_dy, sum_dy_x, counts)
        return dx, d_weight if need_weight else None, d_bias if need_bias else None, None, None, None, None


def _dense(x: Tensor) -> Tensor:
    """`x` in a memory format that the kernels accept: channels last, or contiguous."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that treats a batch of N as `splits` batches of N / splits, as that many devices would.

    In training, slice g (images gN/G to (g+1)N/G - 1) is normalized with its own mean and variance, and the running
    statistics become the mean of those that the slices alone would have given. In evaluation it is plain batch norm.

    Raises `PretrainError` in training if N is not a multiple of `splits`.
    """

    def __init__(self, num_features: int, *, splits: int) -> None:
        super().__init__(num_features)
        self.splits = splits

    def forward(self, input: Tensor) -> Tensor:
        """Normalize `input` (N, C, H, W)."""
        if not self.training:
            return super().forward(input)
        n = len(input)
        if n % self.splits:
            raise PretrainError(
                f"a batch of {n} images cannot be cut into {self.splits} equal parts for batch norm; "
                "choose a batch size per process that is a multiple of bn_splits"
            )
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            raise PretrainError("split batch norm needs running statistics; build it with track_running_stats=True")
        means = self.running_mean.repeat(self.splits, 1)
        variances = self.running_var.repeat(self.splits, 1)
        share = _counted(self)
        parts = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, True, share, self.eps)
            for part, mean, variance in zip(input.chunk(self.splits), means, variances, strict=True)
        ]
        with torch.no_grad():
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
        return torch.cat(parts)


def split_norms(module: Module, splits: int) -> Module:
    """`module` with every plain 2d batch norm split (see `SplitBatchNorm2d`), in place; weights and names stay.

    A batch norm itself is returned replaced.
    """
    if isinstance(module, nn.BatchNorm2d) and type(module) is nn.BatchNorm2d:
        split = SplitBatchNorm2d(module.num_features, splits=splits)
        split.eps, split.momentum, split.training = module.eps, module.momentum, module.training
        split.weight, split.bias = module.weight, module.bias
        split.running_mean, split.running_var = module.running_mean, module.running_var
        split.num_batches_tracked = module.num_batches_tracked
        return split  # type: ignore[return-value]  # a batch norm for a batch norm
    for name, child in module.named_children():
        setattr(module, name, split_norms(child, splits))
    return module
