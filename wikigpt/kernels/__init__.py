"""The parts of a training step that are no matrix products, in C, for CPUs: one pass over memory each.

    GPTModel ──> Kernels.norm, turn, swiglu, gelu, attention, cross_entropy ──> kernels.c

`Kernels` has the functions of `transformer.Plain` and is given to the model in its place: `model.use(kernels)`. Everything
that it does can be done without, and tests/test_kernels.py holds the two against each other, there and back.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wikigpt.kernels.build import library

BLOCK = 256  # queries at once: they need no keys that come after the last of them


class Kernels:
    """Raises OSError where the kernels cannot be built or loaded."""

    def __init__(self, threads: int) -> None:
        self._library, self._threads = library(), threads

    def call(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
        """Calls a function of kernels.c; of tensors it gets the address, so they must be contiguous."""
        function = getattr(self._library, f"{name}_{str(dtype).removeprefix('torch.')}")
        function(*map(_c, arguments), ctypes.c_int64(self._threads))

    def sums(self, size: int) -> Tensor:
        """One row for each thread, to add to."""
        return torch.zeros(self._threads, size)

    def embedding(self, inputs_BT: Tensor, weight_VD: Tensor, tied: bool) -> Tensor:
        """The head's gradient has a row for every token already: the few rows of those that were read are added to it, not
        a second gradient as large, nearly all of it zeros."""
        return F.embedding(inputs_BT, weight_VD, sparse=tied)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return _Norm.apply(self, x, weight, bias, eps)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return _Norm.apply(self, x, weight, None, eps)

    def turn(self, x_BTHK: Tensor, weight_K: Tensor, rotation: Tensor, eps: float) -> Tensor:
        return _Turn.apply(self, x_BTHK, weight_K, rotation, eps)

    def gelu(self, x: Tensor) -> Tensor:
        return _Gelu.apply(self, x)

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        return _SwiGLU.apply(self, gate, up)

    def attention(self, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor) -> Tensor:
        return _Attention.apply(self, q_BHTK, k_BGTK, v_BGTK)

    def cross_entropy(self, logits_NV: Tensor, targets_N: Tensor, vocab_size: int, need_gradient: bool) -> Tensor:
        losses = torch.empty(len(targets_N))
        shape = (*logits_NV.shape, vocab_size, int(need_gradient))
        self.call("cross_entropy", logits_NV.dtype, *shape, logits_NV, targets_N, losses)
        return losses.sum()


def _c(argument: Tensor | int | float | None) -> Any:
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, Tensor):
        assert argument.is_contiguous() and argument.device.type == "cpu"
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What matrices are multiplied in here."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        x, D = x.float().contiguous(), x.shape[-1]
        weight, bias = weight.float(), None if bias is None else bias.float()  # FSDP may have them in 16 bits
        rows = x.numel() // D
        y = torch.empty_like(x, dtype=_compute_dtype(x))
        means, scales = torch.empty(rows), torch.empty(rows)
        kernels.call("norm", y.dtype, rows, D, eps, int(bias is not None), x, weight, bias, y, means, scales)
        ctx.save_for_backward(x, weight, means, scales)
        ctx.kernels, ctx.centred = kernels, bias is not None
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, means, scales = ctx.saved_tensors
        (y_grad,) = (grad.contiguous() for grad in grads)
        D, kernels = x.shape[-1], ctx.kernels
        x_grad, weights, biases = torch.empty_like(x), kernels.sums(D), kernels.sums(D) if ctx.centred else None
        shape = (x.numel() // D, D, int(ctx.centred))
        given = (x, weight, means, scales, y_grad)
        kernels.call("norm_backward", y_grad.dtype, *shape, *given, x_grad, weights, biases)
        return None, x_grad, weights.sum(0), None if biases is None else biases.sum(0), None


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor, weight: Tensor, rotation: Tensor, eps: float) -> Tensor:
        x, weight = x.contiguous(), weight.float()
        B, T, H, K = x.shape
        y = torch.empty(B, H, T, K, dtype=x.dtype)
        kernels.call("turn", x.dtype, B, T, H, K, eps, x, weight, rotation[0], rotation[1], y)
        ctx.save_for_backward(x, weight, rotation)
        ctx.kernels, ctx.eps = kernels, eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rotation = ctx.saved_tensors
        (y_grad,) = (grad.contiguous() for grad in grads)
        x_grad, weights = torch.empty_like(x), ctx.kernels.sums(x.shape[-1])
        given = (*x.shape, ctx.eps, x, weight, rotation[0], rotation[1], y_grad)
        ctx.kernels.call("turn_backward", x.dtype, *given, x_grad, weights)
        return None, x_grad, weights.sum(0), None, None


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        kernels.call("gelu", x.dtype, x.numel(), x, y)
        ctx.save_for_backward(x)
        ctx.kernels = kernels
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (y_grad,) = ctx.saved_tensors, (grad.contiguous() for grad in grads)
        x_grad = torch.empty_like(x)
        ctx.kernels.call("gelu_backward", x.dtype, x.numel(), x, y_grad, x_grad)
        return None, x_grad


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        y = torch.empty_like(gate)
        kernels.call("swiglu", gate.dtype, gate.numel(), gate, up, y)
        ctx.save_for_backward(gate, up)
        ctx.kernels = kernels
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gate, up), (y_grad,) = ctx.saved_tensors, (grad.contiguous() for grad in grads)
        gate_grad, up_grad = torch.empty_like(gate), torch.empty_like(up)
        ctx.kernels.call("swiglu_backward", gate.dtype, gate.numel(), gate, up, y_grad, gate_grad, up_grad)
        return None, gate_grad, up_grad


class _Attention(torch.autograd.Function):
    """Causal attention, a block of queries at a time with the keys up to its end: little is calculated that the mask would
    take away. Heads that share keys and values are the rows of one product (N, S * T, K), so nothing is repeated. The
    weights of several blocks are not kept but calculated again on the way back, as in FlashAttention (Dao et al. 2022)."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        T, K = q.shape[2:]
        k_NTK, v_NTK = k.flatten(0, 1).contiguous(), v.flatten(0, 1).contiguous()
        N = len(k_NTK)
        q_NSTK = q.reshape(N, q.shape[1] // k.shape[1], T, K)
        y_NSTK = torch.empty_like(q_NSTK)
        weights = None
        for start, end in _blocks(T):
            weights = _weights(kernels, q_NSTK[:, :, start:end].reshape(N, -1, K), k_NTK[:, :end], start)
            y_NSTK[:, :, start:end] = (weights @ v_NTK[:, :end]).view(N, -1, end - start, K)
        ctx.save_for_backward(q_NSTK, k_NTK, v_NTK, weights if T <= BLOCK else None)
        ctx.kernels, ctx.q_shape, ctx.k_shape = kernels, q.shape, k.shape
        return y_NSTK.view(q.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_NSTK, k_NTK, v_NTK, kept = ctx.saved_tensors
        N, _, T, K = q_NSTK.shape
        grad_NSTK = grads[0].reshape(q_NSTK.shape)
        q_grad, k_grad, v_grad = torch.empty_like(q_NSTK), torch.zeros_like(k_NTK), torch.zeros_like(v_NTK)
        for start, end in _blocks(T):
            rows, grad = (x[:, :, start:end].reshape(N, -1, K) for x in (q_NSTK, grad_NSTK))
            weights = _weights(ctx.kernels, rows, k_NTK[:, :end], start) if kept is None else kept
            slopes = grad @ v_NTK[:, :end].mT
            shape = (slopes.numel() // (end - start) // end, end - start, end, start, K**-0.5)
            ctx.kernels.call("softmax_backward", slopes.dtype, *shape, weights, slopes)
            q_grad[:, :, start:end] = (slopes @ k_NTK[:, :end]).view(N, -1, end - start, K)
            k_grad[:, :end].baddbmm_(slopes.mT, rows)
            v_grad[:, :end].baddbmm_(weights.mT, grad)
        return None, q_grad.view(ctx.q_shape), k_grad.view(ctx.k_shape), v_grad.view(ctx.k_shape)


def _blocks(T: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]


def _weights(kernels: Kernels, rows: Tensor, keys: Tensor, start: int) -> Tensor:
    """How much each row (N, S * queries, K) takes of each key (N, end, K): (N, S * queries, end)."""
    weights = rows @ keys.mT
    end = keys.shape[1]
    shape = (weights.numel() // (end - start) // end, end - start, end, start, rows.shape[-1] ** -0.5)
    kernels.call("softmax", weights.dtype, *shape, weights)
    return weights
