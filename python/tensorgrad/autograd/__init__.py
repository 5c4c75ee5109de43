"""Gradients: modes, backward and grad, custom functions, checks."""

from .. import _C
from .function import Function, FunctionCtx, once_differentiable
from .grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled
from .gradcheck import gradcheck, gradgradcheck

Node = _C.Node


def _tuple(value):
    if value is None:
        return ()
    return (value,) if isinstance(value, _C.Tensor) else tuple(value)


def _check_gradients(tensors, gradients):
    """One gradient (or None) per tensor, of its shape."""
    if not gradients:
        gradients = (None,) * len(tensors)
    if len(gradients) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(gradients)} gradients")
    for t, g in zip(tensors, gradients):
        if g is None:
            if t.requires_grad and t.numel() != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
        elif not isinstance(g, _C.Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
        elif g.shape != t.shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[0] has a shape of {g.shape} and output[0] has a shape of {t.shape}."
            )
    return gradients


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Accumulates the gradients of `tensors` into the leaves' ``.grad`` (or those of `inputs` only)."""
    tensors = _tuple(tensors)
    if inputs is not None and len(_tuple(inputs)) == 0:
        raise RuntimeError("`inputs` argument to `backward` cannot be empty.")
    gradients = _check_gradients(tensors, _tuple(grad_tensors if grad_tensors is not None else grad_variables))
    _C._backward(tensors, gradients, retain_graph, create_graph, _tuple(inputs))


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph=False,
    only_inputs=True,
    allow_unused=None,
    is_grads_batched=False,
    materialize_grads=False,
):
    """The gradients of `outputs` with respect to `inputs`, one per input; ``.grad`` stays as it is."""
    if is_grads_batched:
        raise NotImplementedError("grad: is_grads_batched is not supported")
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    outputs, inputs = _tuple(outputs), _tuple(inputs)
    gradients = _check_gradients(outputs, _tuple(grad_outputs))
    result = _C._grad(outputs, inputs, gradients, retain_graph, create_graph, bool(allow_unused) or materialize_grads)
    if materialize_grads:
        result = tuple(_C.zeros_like(x, requires_grad=create_graph) if g is None else g for g, x in zip(result, inputs))
    return result


__all__ = [
    "Function",
    "FunctionCtx",
    "Node",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "no_grad",
    "once_differentiable",
    "set_grad_enabled",
]
