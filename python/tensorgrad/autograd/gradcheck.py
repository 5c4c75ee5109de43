"""Comparing gradients with differences of the function itself."""

from .. import _C


class GradcheckError(RuntimeError):
    """What gradcheck raises: which entry differs, and both values."""


def _tensors(value):
    values = (value,) if isinstance(value, _C.Tensor) else tuple(value)
    return tuple(v for v in values if isinstance(v, _C.Tensor))


def _differentiable(values):
    return tuple(v for v in values if v.is_floating_point() and v.requires_grad)


def _numerical(function, inputs, position, n_outputs, eps):
    """Jacobians d output / d inputs[position] by central differences: one (input numel, output numel) matrix per "
    "output."""
    x = inputs[position]
    base = x.detach().clone().contiguous()
    flat = base.reshape(-1)
    columns = [[] for _ in range(n_outputs)]
    for i in range(flat.numel()):
        values = []
        for step in (eps, -eps):
            moved = flat.clone()
            moved[i] += step
            args = list(inputs)
            args[position] = moved.reshape(x.shape).requires_grad_(True)
            values.append([o.detach().clone() for o in _tensors(function(*args)) if o.is_floating_point()])
        for k in range(n_outputs):
            columns[k].append(((values[0][k] - values[1][k]) / (2 * eps)).reshape(-1))
    return [_C.stack(c) if c else None for c in columns]


def _analytical(outputs, inputs, k, allow_unused=True):
    """Jacobians d outputs[k] / d each input by backward, one row of the output at a time: (input numel, output "
    "numel)."""
    out = outputs[k]
    rows = [[] for _ in inputs]
    for j in range(out.numel()):
        upstream = _C.zeros(out.numel(), dtype=out.dtype)
        upstream[j] = 1
        grads = _C._grad((out,), inputs, (upstream.reshape(out.shape),), True, False, allow_unused)
        for i, (g, x) in enumerate(zip(grads, inputs)):
            if g is not None and g.shape != x.shape:
                raise GradcheckError(f"grad is {g.shape} but the input has shape {x.shape}")
            rows[i].append(_C.zeros(x.numel(), dtype=x.dtype) if g is None else g.detach().reshape(-1).to(x.dtype))
    return [_C.stack(r, 1) if r else None for r in rows]


def gradcheck(
    func,
    inputs,
    *,
    eps=1e-6,
    atol=1e-5,
    rtol=1e-3,
    raise_exception=True,
    nondet_tol=0.0,
    check_undefined_grad=True,
    check_grad_dtypes=False,
    check_batched_grad=False,
    check_batched_forward_grad=False,
    check_forward_ad=False,
    check_backward_ad=True,
    fast_mode=False,
    masked=None,
):
    """Compares the gradients of `func` at `inputs` (float64) with central differences."""
    inputs = (inputs,) if isinstance(inputs, _C.Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, _C.Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have "
            "requires_grad=True."
        )
    try:
        outputs = _tensors(func(*inputs))
        differentiable = _differentiable(outputs)
        floating = [o for o in outputs if o.is_floating_point()]
        for i in wanted:
            numerical = _numerical(func, inputs, i, len(floating), eps)
            for k, out in enumerate(floating):
                expected = numerical[k]
                if expected is None or expected.numel() == 0:
                    continue
                if out.requires_grad:
                    got = _analytical(floating, [inputs[i]], k)[0]
                else:
                    got = _C.zeros_like(expected)
                if not bool(_C.allclose(got, expected.to(got.dtype), rtol, atol)):
                    raise GradcheckError(
                        f"Jacobian mismatch for output {k} with respect to input "
                        f"{i},\nnumerical:{expected}\nanalytical:{got}\n"
                    )
        if not differentiable and not floating:
            raise GradcheckError("func has no floating-point output")
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func,
    inputs,
    grad_outputs=None,
    *,
    eps=1e-6,
    atol=1e-5,
    rtol=1e-3,
    gen_non_contig_grad_outputs=False,
    raise_exception=True,
    nondet_tol=0.0,
    check_undefined_grad=True,
    check_grad_dtypes=False,
    check_batched_grad=False,
    check_fwd_over_rev=False,
    check_rev_over_rev=True,
    fast_mode=False,
    masked=False,
):
    """Checks the gradients of the gradients of `func`, for given or random upstream gradients."""
    inputs = (inputs,) if isinstance(inputs, _C.Tensor) else tuple(inputs)
    outputs = _differentiable(_tensors(func(*inputs)))
    if grad_outputs is None:
        upstream = tuple(_C.randn(list(o.shape), dtype=o.dtype).requires_grad_(True) for o in outputs)
    else:
        upstream = (grad_outputs,) if isinstance(grad_outputs, _C.Tensor) else tuple(grad_outputs)
    n = len(upstream)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, _C.Tensor) and x.requires_grad]

    def gradients(*args):
        args, ups = args[:-n], args[-n:]
        args = tuple(
            a if not isinstance(a, _C.Tensor) or not a.is_floating_point() or a.requires_grad else a.detach()
            for a in args
        )
        outs = _differentiable(_tensors(func(*args)))
        grads = _C._grad(outs, tuple(args[i] for i in wanted), ups, True, True, True)
        return tuple(g for g in grads if g is not None)

    return gradcheck(gradients, inputs + upstream, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
