"""Operations with a gradient written in Python."""

import functools

from .. import _C

Tensor = _C.Tensor


class FunctionCtx:
    """What forward leaves for backward; any attribute may be added."""

    needs_input_grad = ()
    _to_save = ()
    _saved = None
    _non_differentiable = ()
    _dirty = ()
    _materialize = True

    def save_for_backward(self, *tensors):
        """Keeps tensors for backward, where they are ``saved_tensors``; call at most once."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument 0 is of type {type(t).__name__}"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self):
        if self._saved is not None:
            return self._saved
        return tuple(self._to_save)

    saved_variables = saved_tensors

    def mark_non_differentiable(self, *tensors):
        """These outputs get no gradient."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors):
        """These inputs were changed in place."""
        self._dirty = tensors

    def set_materialize_grads(self, value):
        """False: gradients that nobody provided arrive as None instead of zeros."""
        self._materialize = value


class _Backward:
    """The backward of one application; a class of its own so that the graph holds the context and nothing else."""

    def __init__(self, function, ctx, positions, n_inputs):
        self.function, self.ctx, self.positions, self.n_inputs = function, ctx, positions, n_inputs

    def __call__(self, saved, grads):
        ctx = self.ctx
        ctx._saved = saved
        try:
            result = self.function.backward(ctx, *grads)
        finally:
            ctx._saved = None
        if not isinstance(result, tuple):
            result = (result,)
        if len(result) > self.n_inputs and all(r is None for r in result[self.n_inputs :]):
            result = result[: self.n_inputs]
        name = self.function.__name__
        if len(result) != self.n_inputs:
            raise RuntimeError(
                f"function {name}Backward returned an incorrect number of gradients (expected {self.n_inputs}, got "
                f"{len(result)})"
            )
        for i, r in enumerate(result):
            if r is not None and not isinstance(r, Tensor):
                raise TypeError(f"expected Variable or None (got {type(r).__name__})")
            if r is not None and i not in self.positions:
                raise RuntimeError(
                    f"function {name}Backward returned a gradient different than None at position {i + 1}, but the "
                    "corresponding "
                    "forward input was not a Variable"
                )
        return [result[i] for i in self.positions]


class Function:
    """Subclass with static ``forward(ctx, *args)`` and ``backward(ctx, *grad_outputs)``; call with ``apply``.

    Or ``forward(*args)`` with ``setup_context(ctx, inputs, output)``.

    Example::

        class Cube(Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x**3

            @staticmethod
            def backward(ctx, g):
                (x,) = ctx.saved_tensors
                return 3 * x**2 * g
    """

    @staticmethod
    def forward(*args, **kwargs):
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx, *grad_outputs):
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        raise NotImplementedError("setup_context is not implemented.")

    def __init__(self, *args, **kwargs):
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should "
            "invoke them on "
            "the class itself. Instantiating an autograd function will raise an error in a future version of PyTorch."
        )

    @classmethod
    def apply(cls, *args, **kwargs):
        ctx = FunctionCtx()
        positions = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        kept = {}
        separate = cls.setup_context is not Function.setup_context

        def run(needs):
            flags = [False] * len(args)
            for i, need in zip(positions, needs):
                flags[i] = need
            ctx.needs_input_grad = tuple(flags)
            if separate:
                output = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args, **kwargs)
            kept["single"] = not isinstance(output, tuple)
            outputs = (output,) if kept["single"] else output
            kept["others"] = outputs
            tensors = []
            for o in outputs:
                if isinstance(o, Tensor):
                    tensors.append(o)
                elif kept["single"]:
                    raise TypeError(f"{cls.__name__}.forward: expected to return a Tensor, got {type(o).__name__}")
            to_save = tuple(ctx._to_save)
            ctx._to_save = ()
            return tensors, to_save, ctx._non_differentiable, ctx._dirty, ctx._materialize

        made = _C._apply_function(
            cls.__name__, [args[i] for i in positions], run, _Backward(cls, ctx, positions, len(args))
        )
        ctx._non_differentiable = ctx._dirty = ()
        if kept["single"]:
            return made[0]
        made = iter(made)
        return tuple(next(made) if isinstance(o, Tensor) else o for o in kept["others"])


def once_differentiable(fn):
    """Marks a backward that is not itself differentiable: under create_graph its result has no history."""

    @functools.wraps(fn)
    def wrapper(ctx, *args):
        with _C.no_grad_guard():
            return fn(ctx, *args)

    return wrapper
