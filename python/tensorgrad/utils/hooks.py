"""Handles of registered hooks, and the plumbing of module backward hooks."""

import itertools
import weakref

_ids = itertools.count()


class RemovableHandle:
    """What registering a hook returns: ``handle.remove()`` takes the hook away; also a context manager."""

    def __init__(self, hooks):
        self.id = next(_ids)
        self._hooks = weakref.ref(hooks)

    def remove(self):
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


class BackwardHook:
    """Ties full backward hooks of one call of a module to the gradients of its inputs and outputs.

    An identity node on the inputs sees the gradients that leave the module, one on the outputs those that come in.
    """

    def __init__(self, module, hooks, pre_hooks):
        self.module = module
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.grad_outputs = None
        self.n_inputs = -1
        self.input_index = []
        self.has_input_node = False

    def setup_inputs(self, args):
        from .. import _C

        self.n_inputs = len(args)
        index = [i for i, a in enumerate(args) if isinstance(a, _C.Tensor) and a.is_floating_point()]
        if not self.hooks or not any(args[i].requires_grad for i in index) or not _C.is_grad_enabled():
            return args
        self.has_input_node = True
        self.input_index = index
        new = _identity(self._on_grad_inputs, *[args[i] for i in index])
        args = list(args)
        for i, value in zip(index, new):
            args[i] = value
        return tuple(args)

    def setup_outputs(self, result):
        from .. import _C

        is_tuple = isinstance(result, tuple)
        outs = list(result) if is_tuple else [result]
        index = [i for i, o in enumerate(outs) if isinstance(o, _C.Tensor) and o.requires_grad]
        if not index:
            return result
        n_outputs = len(outs)

        def on_grad_outputs(grads):
            full = [None] * n_outputs
            for i, g in zip(index, grads):
                full[i] = g
            full = tuple(full)
            for hook in self.pre_hooks:
                changed = hook(self.module, full)
                if changed is not None:
                    full = changed if isinstance(changed, tuple) else (changed,)
            self.grad_outputs = full
            if self.hooks and not self.has_input_node:
                for hook in self.hooks:
                    if hook(self.module, (None,) * self.n_inputs, full) is not None:
                        raise RuntimeError(
                            "Backward hook for Modules where no input requires gradient should always return None"
                        )
            return tuple(full[i] for i in index)

        new = _identity(on_grad_outputs, *[outs[i] for i in index])
        for i, value in zip(index, new):
            outs[i] = value
        return tuple(outs) if is_tuple else outs[0]

    def _on_grad_inputs(self, grads):
        full = [None] * self.n_inputs
        for i, g in zip(self.input_index, grads):
            full[i] = g
        full = tuple(full)
        for hook in self.hooks:
            changed = hook(self.module, full, self.grad_outputs)
            if changed is not None:
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(full):
                    raise RuntimeError(
                        f"Backward hook returned an invalid number of grad_input, got {len(changed)}, but expected "
                        f"{len(full)}"
                    )
                full = changed
        self.grad_outputs = None
        return tuple(full[i] for i in self.input_index)


_node = None


def _identity(callback, *tensors):
    """Passes tensors through one autograd node; `callback(grads)` sees and may replace their gradients."""
    global _node
    if _node is None:
        from ..autograd import Function

        class BackwardHookFunction(Function):
            @staticmethod
            def forward(ctx, seen, *values):
                ctx.seen = seen
                ctx.mark_non_differentiable(*[v for v in values if not v.requires_grad])
                return tuple(v.view_as(v) for v in values)

            @staticmethod
            def backward(ctx, *grads):
                return (None, *ctx.seen(grads))

        _node = BackwardHookFunction
    return _node.apply(callback, *tensors)
