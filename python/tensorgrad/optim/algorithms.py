"""SGD, Adam and AdamW. Each step is one call into the core for all parameters of a group."""

from .. import _C
from .optimizer import Optimizer


def _run_closure(closure):
    if closure is None:
        return None
    with _C.set_grad_enabled_guard(True):
        return closure()


def _check_lr(lr, foreach=None, capturable=True):
    if hasattr(lr, "numel"):
        if foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        if lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
    if lr < 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")


def _check_betas(betas, foreach, capturable):
    tensors = [hasattr(beta, "numel") for beta in betas]
    if tensors[0] != tensors[1] or any(not t and not isinstance(b, float) for t, b in zip(tensors, betas)):
        raise ValueError("betas must be either both floats or both Tensors")
    for i, beta in enumerate(betas):
        if tensors[i]:
            if foreach and not capturable:
                raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
            if beta.numel() != 1:
                raise ValueError(f"Tensor betas[{i}] must be 1-element")
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def _scaler(optimizer):
    """What a GradScaler left to the step: (leave it out, grad_scale, found_inf)."""
    grad_scale, found_inf = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
    if found_inf is not None and not found_inf.is_cuda:  # known at once, without waiting for a device
        return bool(found_inf.item()), grad_scale, None
    return False, grad_scale, found_inf


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov momentum and weight decay."""

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0,
        dampening=0,
        weight_decay=0,
        nesterov=False,
        *,
        maximize=False,
        foreach=None,
        differentiable=False,
        fused=None,
    ):
        _check_lr(lr)
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        self._step_supports_amp_scaling = bool(fused)

    def step(self, closure=None):
        """One update; `closure` recomputes the loss and its gradients and returns the loss."""
        loss = _run_closure(closure)
        skip, grad_scale, found_inf = _scaler(self)
        if skip:
            return loss
        for group in self.param_groups:
            params, grads, buffers = [], [], []
            momentum = float(group["momentum"])
            first = []
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                params.append(p)
                grads.append(grad)
                if momentum != 0:
                    state = self.state[p]
                    buffer = state.get("momentum_buffer")
                    first.append(buffer is None)
                    if buffer is None:
                        buffer = state["momentum_buffer"] = _C.zeros_like(p.detach())
                    buffers.append(buffer)
            if params:
                _C._sgd_step(
                    params,
                    grads,
                    buffers,
                    first,
                    float(group["lr"]),
                    momentum,
                    float(group["dampening"]),
                    float(group["weight_decay"]),
                    bool(group["nesterov"]),
                    bool(group["maximize"]),
                    grad_scale,
                    found_inf,
                )
        return loss


class Adam(Optimizer):
    """Adam: gradients divided by the root of their mean square, both averaged over time."""

    _decoupled = False

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        amsgrad=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
        fused=None,
        decoupled_weight_decay=False,
    ):
        _check_lr(lr, foreach, capturable)
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        _check_betas(betas, foreach, capturable)
        if not 0.0 <= weight_decay:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)
        self._step_supports_amp_scaling = bool(fused)

    def step(self, closure=None):
        """One update; `closure` recomputes the loss and its gradients and returns the loss."""
        loss = _run_closure(closure)
        skip, grad_scale, found_inf = _scaler(self)
        if skip:
            return loss
        for group in self.param_groups:
            params, grads, means, squares, largest, steps = [], [], [], [], [], []
            amsgrad = bool(group["amsgrad"])
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                state = self.state[p]
                if not state:
                    # On a CUDA device the count stays there, as with PyTorch's capturable: a replayed graph counts on.
                    state["step"] = _C.zeros((), dtype=_C.float32, device=p.device)
                    state["exp_avg"] = _C.zeros_like(p.detach())
                    state["exp_avg_sq"] = _C.zeros_like(p.detach())
                    if amsgrad:
                        state["max_exp_avg_sq"] = _C.zeros_like(p.detach())
                if state["step"].is_cuda != p.is_cuda:  # the model was moved
                    state["step"] = state["step"].to(p.device)
                params.append(p)
                grads.append(grad)
                steps.append(state["step"])
                means.append(state["exp_avg"])
                squares.append(state["exp_avg_sq"])
                if amsgrad:
                    largest.append(state["max_exp_avg_sq"])
            if params:
                beta1, beta2 = group["betas"]
                _C._adam_step(
                    params,
                    grads,
                    means,
                    squares,
                    largest,
                    steps,
                    float(group["lr"]),
                    float(beta1),
                    float(beta2),
                    float(group["eps"]),
                    float(group["weight_decay"]),
                    bool(group["decoupled_weight_decay"]),
                    bool(group["maximize"]),
                    grad_scale,
                    found_inf,
                )
        return loss


class AdamW(Adam):
    """Adam with weight decay applied to the parameter itself instead of the gradient."""

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
        foreach=None,
        capturable=False,
        differentiable=False,
        fused=None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
