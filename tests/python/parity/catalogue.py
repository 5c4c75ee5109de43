"""What is covered: the operations by their names in PyTorch's op_db, and how each is called on tensorgrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OPERATIONS = set(
    """
    add sub rsub mul div true_divide floor_divide pow neg bitwise_not sqrt rsqrt square reciprocal exp log abs sign
    __radd__ __rsub__ __rmul__ __rdiv__ __rpow__ __rmatmul__ __getitem__
    sum mean max min amax amin var std argmax argmin any all cumsum logsumexp prod
    eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
    isnan isinf isfinite
    sigmoid tanh softmax log_softmax clamp clamp_min clamp_max maximum minimum where
    nn.functional.relu nn.functional.gelu nn.functional.silu
    reshape view flatten permute transpose t squeeze unsqueeze expand expand_as repeat cat stack split
    split_with_sizes chunk narrow select flip tril triu contiguous clone unbind view_as reshape_as
    masked_fill masked_select index_select index_put gather scatter_add nonzero topk sort nn.functional.one_hot
    float double int long bool short char byte bfloat16 half to
    matmul mm bmm mv dot addmm nn.functional.linear nn.functional.conv2d nn.functional.max_pool2d
    nn.functional.avg_pool2d nn.functional.adaptive_avg_pool2d
    nn.functional.embedding nn.functional.dropout nn.functional.batch_norm nn.functional.layer_norm
    nn.functional.scaled_dot_product_attention nn.functional.cross_entropy nn.functional.nll_loss
    nn.functional.mse_loss nn.functional.multi_head_attention_forward
    zeros ones full empty arange linspace eye randn randint bernoulli
    zeros_like ones_like full_like empty_like rand_like randn_like randint_like
    """.split()
)

# The values are random or undefined: only shape, dtype and requires_grad are compared.
NO_VALUES = {"empty", "empty_like", "randn", "randint", "bernoulli", "rand_like", "randn_like", "randint_like"}
RANDOM_UNLESS = {  # random only where an argument says so
    "nn.functional.dropout": lambda kwargs: kwargs.get("p", 0.5) not in (0.0, 1.0) and kwargs.get("training", True),
    "nn.functional.scaled_dot_product_attention": lambda kwargs: kwargs.get("dropout_p", 0.0) > 0.0,
    "nn.functional.multi_head_attention_forward": lambda kwargs: False,
}
# Equal values may come in any order, so their indices may differ.
TIES = {"sort", "topk"}


def has_random_values(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if name == "nn.functional.multi_head_attention_forward":
        # query; key, value, embed_dim, heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn, dropout_p
        return kwargs.get("dropout_p", args[9] if len(args) > 9 else 0.0) > 0.0 and kwargs.get("training", True)
    return name in NO_VALUES or RANDOM_UNLESS.get(name, lambda _: False)(kwargs)


def _special(lib: Any) -> dict[str, Callable[..., Any]]:
    """Operations whose OpInfo reorders the arguments."""
    functional = lib.nn.functional
    return {
        "where": lambda x, condition, other, **kw: lib.where(condition, x, other, **kw),
        "nn.functional.embedding": lambda weight, index, **kw: functional.embedding(index, weight, **kw),
    }


def resolve(op: Any, lib: Any) -> Callable[..., Any]:
    """The function of `lib` that an OpInfo tests. A lambda that only calls methods of its argument is used as it is."""
    special = _special(lib).get(op.name)
    if special:
        return special
    code = getattr(op.op, "__code__", None)
    if code is not None and code.co_name == "<lambda>" and not {"torch", "wrapper_set_seed"} & set(code.co_names):
        return op.op
    if op.name.startswith("__"):
        return getattr(lib.Tensor, {"__rdiv__": "__rtruediv__"}.get(op.name, op.name))
    found: Any = lib
    for part in op.name.split("."):
        found = getattr(found, part, None)
    if found is None:
        found = getattr(lib.Tensor, op.name, None)
    if found is None:
        raise AttributeError(f"{lib.__name__} has no {op.name}")
    return found
