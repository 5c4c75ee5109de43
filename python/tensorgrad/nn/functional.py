"""The functions behind the layers: the names of torch.nn.functional."""

import functools
import math
import warnings

from .. import _C
from ..amp.autocast_mode import rule
from ._sizes import pair
from .losses import (  # noqa: F401
    _legacy_reduction,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cross_entropy,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    nll_loss,
    pairwise_distance,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    triplet_margin_loss,
)

Tensor = _C.Tensor

# Straight from the core: the operation's own signature is the public one.
linear = _C.linear
conv1d = _C.conv1d
conv2d = _C.conv2d
conv3d = _C.conv3d
conv_transpose1d = _C.conv_transpose1d
conv_transpose2d = _C.conv_transpose2d
conv_transpose3d = _C.conv_transpose3d
scaled_dot_product_attention = _C.scaled_dot_product_attention


# ---- activations -----------------------------------------------------------------------------------------------------


def _into(input, result, inplace):
    return input.copy_(result) if inplace else result


def relu(input, inplace=False):
    """max(x, 0)."""
    return _C.relu_(input) if inplace else _C.relu(input)


def relu6(input, inplace=False):
    """min(max(x, 0), 6)."""
    return _C.relu6_(input) if inplace else _C.relu6(input)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """clamp(x, min_val, max_val)."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _C.hardtanh_(input, min_val, max_val) if inplace else _C.hardtanh(input, min_val, max_val)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where positive, negative_slope x elsewhere."""
    return _C.leaky_relu_(input, negative_slope) if inplace else _C.leaky_relu(input, negative_slope)


def elu(input, alpha=1.0, inplace=False):
    """x where positive, alpha (exp(x) - 1) elsewhere."""
    return _C.elu_(input, alpha) if inplace else _C.elu(input, alpha)


def celu(input, alpha=1.0, inplace=False):
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    return _into(input, _C.celu(input, alpha), inplace)


def selu(input, inplace=False):
    """scale * elu(x, alpha) with self-normalising constants."""
    return _C.selu_(input) if inplace else _C.selu(input)


@rule("lower", "input", "weight")
def prelu(input, weight):
    """x where positive, weight x elsewhere; weight has one element or one per channel (dimension 1)."""
    return _C.prelu(input, weight)


gelu = _C.gelu
avg_pool2d = _C.avg_pool2d


def silu(input, inplace=False):
    """x sigmoid(x)."""
    return _C.silu_(input) if inplace else _C.silu(input)


def mish(input, inplace=False):
    """x tanh(softplus(x))."""
    return _C.mish_(input) if inplace else _C.mish(input)


def sigmoid(input):
    """1 / (1 + exp(-x))."""
    return _C.sigmoid(input)


def tanh(input):
    """tanh(x)."""
    return _C.tanh(input)


softplus = _C.softplus


def logsigmoid(input):
    """log(sigmoid(x))."""
    return _C.logsigmoid(input)


def hardsigmoid(input, inplace=False):
    """clamp(x / 6 + 1 / 2, 0, 1)."""
    return _C.hardsigmoid_(input) if inplace else _C.hardsigmoid(input)


def hardswish(input, inplace=False):
    """x hardsigmoid(x)."""
    return _C.hardswish_(input) if inplace else _C.hardswish(input)


def softsign(input):
    """x / (1 + |x|)."""
    return _C.softsign(input)


def tanhshrink(input):
    """x - tanh(x)."""
    return _C.tanhshrink(input)


hardshrink = _C.hardshrink
softshrink = _C.softshrink


def threshold(input, threshold, value, inplace=False):
    """x where x > threshold, value elsewhere."""
    return _C.threshold_(input, threshold, value) if inplace else _C.threshold(input, threshold, value)


glu = _C.glu


def _implicit_dim(name, ndim):
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=3,
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along dim."""
    if dim is None:
        dim = _implicit_dim("softmax", input.dim())
    return _C.softmax(input, dim) if dtype is None else _C.softmax(input, dim, dtype=dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax(-x) along dim."""
    if dim is None:
        dim = _implicit_dim("softmin", input.dim())
    return softmax(-input, dim, dtype=dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """log(softmax(x)) along dim."""
    if dim is None:
        dim = _implicit_dim("log_softmax", input.dim())
    return _C.log_softmax(input, dim) if dtype is None else _C.log_softmax(input, dim, dtype=dtype)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """softmax((logits + Gumbel noise) / tau); `hard` gives one-hot rows with the soft gradient."""
    uniform = _C.rand_like(logits.detach())
    noise = -(-(uniform.clamp(min=1e-38)).log()).log()
    soft = ((logits + noise) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    one = _C.zeros_like(logits.detach()).scatter(dim, index, 1.0)
    return one - soft.detach() + soft


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """x / max(||x||_p, eps) along dim."""
    length = input.norm(p, dim, keepdim=True).clamp(min=eps).expand_as(input)
    return input / length if out is None else _C.div(input, length, out=out)


# ---- dropout ---------------------------------------------------------------------------------------------------------


def _check_probability(p):
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input, p=0.5, training=True, inplace=False):
    """Zeroes elements with probability p and scales the rest by 1 / (1 - p)."""
    _check_probability(p)
    return _into(input, _C.dropout(input, p, training), inplace)


def _drop_channels(input, p, training, inplace, batched):
    _check_probability(p)
    if batched:
        return _into(input, _C.feature_dropout(input, p, training), inplace)
    return _into(input, _C.feature_dropout(input.unsqueeze(0), p, training).squeeze(0), inplace)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """Zeroes whole channels of (N, C, L) or (C, L)."""
    if input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Note that dropout1d exists to "
            "provide "
            "channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional batch "
            "dimension "
            "(i.e. 2D or 3D inputs)."
        )
    return _drop_channels(input, p, training, inplace, input.dim() == 3)


def dropout2d(input, p=0.5, training=True, inplace=False):
    """Zeroes whole channels of (N, C, H, W)."""
    return _drop_channels(input, p, training, inplace, True)


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps the mean and variance of SELU's outputs."""
    _check_probability(p)
    if not training or p == 0:
        return input
    alpha = -1.7580993408473766
    a = 1.0 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    keep = (_C.rand_like(input.detach()) >= p).to(input.dtype)
    return _into(input, input * (keep * a) + ((1 - keep) * (alpha * a) + alpha * a * p), inplace)


# ---- embedding -------------------------------------------------------------------------------------------------------


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """Rows of weight at the indices of input; padding_idx gets no gradient."""
    if sparse:
        raise NotImplementedError("embedding: sparse gradients are not supported")
    if padding_idx is not None:
        rows = weight.size(0)
        if padding_idx >= rows or padding_idx < -rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    else:
        padding_idx = -1
    if max_norm is not None:
        with _C.no_grad_guard():
            used = input.reshape(-1).unique()
            norms = weight[used].norm(norm_type, 1, keepdim=True)
            weight[used] = weight[used] * _C.where(norms > max_norm, max_norm / (norms + 1e-7), _C.ones_like(norms))
    return _C.embedding(weight, input, padding_idx, scale_grad_by_freq, False)


def one_hot(tensor, num_classes=-1):
    """int64 rows with a one at each index."""
    return _C.one_hot(tensor, num_classes)


# ---- normalisation ---------------------------------------------------------------------------------------------------


def _check_batch(size):
    n = size[0] * math.prod(size[2:])
    if n == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {size}")


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalises each channel (dimension 1); in training by the batch, updating the running statistics."""
    if training:
        _check_batch(input.size())
    return _C.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, False)


def instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    """Normalises each channel of each sample."""
    if use_input_stats and math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.size()}")
    return _C.instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, False)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalises over the last dimensions, those of normalized_shape."""
    return _C.layer_norm(input, normalized_shape, weight, bias, eps)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean(x^2) + eps) over the last dimensions."""
    return _C.rms_norm(input, normalized_shape, weight, eps)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalises groups of channels within each sample."""
    if input.dim() < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.dim()}")
    return _C.group_norm(input, num_groups, weight, bias, eps)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """x / (k + alpha mean of squares over neighbouring channels)^beta."""
    if input.dim() < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.dim()} dimensions)")
    squares = input.square()
    pads = [0, 0] * (input.dim() - 2) + [size // 2, (size - 1) // 2]
    windows = pad(squares, pads).unfold(1, size, 1).sum(-1) / size
    return input / (windows * alpha + k).pow(beta)


@rule("wide_cuda", "x1", "x2")
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim."""
    a = x1.norm(2, dim).clamp(min=eps)
    b = x2.norm(2, dim).clamp(min=eps)
    return (x1 * x2).sum(dim) / (a * b)


# ---- linear, convolution, attention ----------------------------------------------------------------------------------


@rule("unit", "input1", "input2", "weight", "bias")
def bilinear(input1, input2, weight, bias=None):
    """x1 A x2 + b; weight (out, in1, in2)."""
    out, in1, in2 = weight.shape
    left = input1.reshape(-1, in1).matmul(weight.permute(1, 0, 2).reshape(in1, out * in2)).reshape(-1, out, in2)
    y = left.matmul(input2.reshape(-1, in2, 1)).squeeze(-1).reshape([*input1.shape[:-1], out])
    return y if bias is None else y + bias


def _multi_head_attention(
    query,
    key,
    value,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_weight,
    out_bias,
    training,
    key_padding_mask,
    need_weights,
    attn_mask,
    q_weight,
    k_weight,
    v_weight,
    average_attn_weights,
    is_causal,
    batch_first,
):
    """What nn.MultiheadAttention computes: (output, attention weights or None)."""
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    return _C.multi_head_attention(
        query,
        key,
        value,
        num_heads,
        in_proj_weight,
        in_proj_bias,
        out_weight,
        out_bias,
        bias_k,
        bias_v,
        add_zero_attn,
        dropout_p if training else 0.0,
        key_padding_mask,
        need_weights,
        attn_mask,
        q_weight,
        k_weight,
        v_weight,
        average_attn_weights,
        is_causal,
        batch_first,
    )


def multi_head_attention_forward(
    query,
    key,
    value,
    embed_dim_to_check,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    static_k=None,
    static_v=None,
    average_attn_weights=True,
    is_causal=False,
):
    """The function form of nn.MultiheadAttention; tensors are (L, N, E)."""
    if static_k is not None or static_v is not None:
        raise NotImplementedError("multi_head_attention_forward: static_k and static_v are not supported")
    if query.size(-1) != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {query.size(-1)}")
    if not use_separate_proj_weight:
        q_proj_weight = k_proj_weight = v_proj_weight = None
    else:
        in_proj_weight = None
    return _multi_head_attention(
        query,
        key,
        value,
        num_heads,
        in_proj_weight,
        in_proj_bias,
        bias_k,
        bias_v,
        add_zero_attn,
        dropout_p,
        out_proj_weight,
        out_proj_bias,
        training,
        key_padding_mask,
        need_weights,
        attn_mask,
        q_proj_weight,
        k_proj_weight,
        v_proj_weight,
        average_attn_weights,
        is_causal,
        False,
    )


# ---- pooling ---------------------------------------------------------------------------------------------------------


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest value of each window of (N, C, H, W)."""
    pool = _C.max_pool2d_with_indices if return_indices else _C.max_pool2d
    return pool(input, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest value of each window of (N, C, L)."""
    pool = _C.max_pool1d_with_indices if return_indices else _C.max_pool1d
    return pool(input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of each window of (N, C, L)."""
    return _C.avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _output_size(input, output_size, n):
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * n
    if any(s is not None and s < 0 for s in sizes):
        raise RuntimeError(f"elements of output_size must be greater than or equal to 0 but received {list(sizes)}")
    return [input.size(i - len(sizes)) if s is None else s for i, s in enumerate(sizes)]


def adaptive_avg_pool2d(input, output_size):
    """Means over windows that split (H, W) into output_size parts."""
    if input.dim() < 3:
        raise ValueError(f"Input dimension should be at least 3, got {input.dim()}")
    return _C.adaptive_avg_pool2d(input, _output_size(input, output_size, 2))


def adaptive_avg_pool1d(input, output_size):
    """Means over windows that split L into output_size parts."""
    return _C.adaptive_avg_pool1d(input, output_size)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """Maxima over windows that split L into output_size parts."""
    values, indices = _C.adaptive_max_pool1d(input, output_size)
    return (values, indices) if return_indices else values


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """Maxima over windows that split (H, W) into output_size parts."""
    values, indices = _C.adaptive_max_pool2d(input, _output_size(input, output_size, 2))
    return (values, indices) if return_indices else values


# ---- shapes ----------------------------------------------------------------------------------------------------------


def pad(input, pad, mode="constant", value=None):
    """Pads the last len(pad) / 2 dimensions, last first: (left, right, top, bottom, ...)."""
    if mode == "constant":
        return _C.constant_pad_nd(input, list(pad), 0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if len(pad) % 2 or len(pad) // 2 > input.dim():
        raise RuntimeError(f"Padding length {len(pad)} does not fit an input of {input.dim()} dimensions")
    if not any(p < 0 for p in pad):
        return _C._edge_pad(input, list(pad), mode)
    grows = [max(p, 0) for p in pad]
    if mode == "circular":  # as PyTorch's: what is left wraps around; the others look beyond the cut
        return _C._edge_pad(_cut(input, pad), grows, mode)
    return _cut(_C._edge_pad(input, grows, mode), pad).contiguous()


def _cut(input, pad):
    """Without the entries that the negative numbers of a pad cut off."""
    for i in range(len(pad) // 2):
        dim = input.dim() - 1 - i
        start = min(max(-pad[2 * i], 0), input.size(dim))
        length = input.size(dim) - start - max(-pad[2 * i + 1], 0)
        input = input.narrow(dim, start, max(length, 0))
    return input


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Windows of (N, C, H, W) as columns: (N, C kh kw, L)."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = pair(kernel_size), pair(dilation), pair(padding), pair(stride)
    batched = input.dim() == 4
    x = pad(input if batched else input.unsqueeze(0), (pw, pw, ph, ph))
    x = x.unfold(2, dh * (kh - 1) + 1, sh).unfold(3, dw * (kw - 1) + 1, sw)[..., ::dh, ::dw]
    n, c, rows, cols = x.shape[:4]
    x = x.permute(0, 1, 4, 5, 2, 3).reshape(n, c * kh * kw, rows * cols)
    return x if batched else x.squeeze(0)


def pixel_shuffle(input, upscale_factor):
    """(*, C r^2, H, W) to (*, C, H r, W r)."""
    r = upscale_factor
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            "but "
            f"input.size(-3)={c} is not divisible by {r * r}"
        )
    x = input.reshape(-1, c // (r * r), r, r, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape([*lead, c // (r * r), h * r, w * r])


def _resized(lengths, size, scale_factor, recompute):
    """The sizes that `lengths` are resized to, and how far apart their places are."""
    n = len(lengths)
    factors = [None] * n
    if size is None:
        factors = list(scale_factor) if isinstance(scale_factor, (tuple, list)) else [scale_factor] * n
        sizes = [int(math.floor(lengths[i] * factors[i])) for i in range(n)]
    else:
        sizes = list(size) if isinstance(size, (tuple, list)) else [size] * n
    return sizes, [
        lengths[i] / sizes[i] if factors[i] is None or recompute else 1.0 / factors[i] for i in range(n)
    ]  # fmt: skip


def _nearest_order(length, out, ratio):
    """The entries nearest to `out` places `ratio` apart."""
    return [min(int(math.floor(j * ratio)), length - 1) for j in range(out)]


@functools.lru_cache(maxsize=256)
def _repeats(lengths, size, scale_factor, recompute):
    """Where all entries are repeated equally often: the dims with one of 1 behind each, those repeated, and merged."""
    sizes, ratios = _resized(lengths, size, scale_factor, recompute)
    apart, repeated = [], []
    for length, out, ratio in zip(lengths, sizes, ratios):
        times = out // length if length else 0
        if times == 0 or _nearest_order(length, out, ratio) != [j // times for j in range(length * times)]:
            return None
        apart += (length, 1)
        repeated += (length, times)
    return apart, repeated, sizes


def _nearest(input, size, scale_factor, recompute):
    """The nearest entries of dims 2, 3, ..."""
    lengths = input.shape[2:]
    if input.is_cuda:  # where possible one copy of a view
        size, scale_factor = (tuple(v) if isinstance(v, list) else v for v in (size, scale_factor))
        found = _repeats(tuple(lengths), size, scale_factor, recompute)
        if found is not None:
            lead = list(input.shape[:2])
            return input.reshape(lead + found[0]).expand(lead + found[1]).reshape(lead + found[2])
    for i, (out, ratio) in enumerate(zip(*_resized(lengths, size, scale_factor, recompute))):
        if input.is_cuda:  # counted there, so that nothing is uploaded
            at = _C.arange(out, dtype=_C.float64, device=input.device) * ratio
            places = at.floor().to(_C.int64).clamp(max=lengths[i] - 1)
        else:
            places = _C._tensor_from_data(_nearest_order(lengths[i], out, ratio), _C.int64)
        input = input.index_select(i + 2, places)
    return input


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """Resizes the spatial dimensions of (N, C, *): nearest, linear or bilinear."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "only one of size or scale_factor should be defined"
            if size
            else "either size or scale_factor should be defined"
        )
    if mode == "nearest":
        return _nearest(input, size, scale_factor, recompute_scale_factor)
    if mode not in ("linear", "bilinear"):
        raise NotImplementedError(f"interpolate: mode {mode!r} is not supported")
    n = input.dim() - 2
    sizes, ratios = _resized(input.shape[2:], size, scale_factor, recompute_scale_factor)
    for i, out in enumerate(sizes):
        length, ratio = input.size(i + 2), ratios[i]
        at = _C.arange(out, dtype=_C.float64, device=input.device)  # no list: nothing is uploaded to a device
        if align_corners:
            at = at * ((length - 1) / (out - 1) if out > 1 else 0.0)
        else:
            at = ((at + 0.5) * ratio - 0.5).clamp(min=0.0)
        low = at.to(_C.int64).clamp(max=length - 1)
        weight = (at - low).to(input.dtype).reshape([out] + [1] * (n - 1 - i))
        a = input.index_select(i + 2, low)
        b = input.index_select(i + 2, (low + 1).clamp(max=length - 1))
        input = a + (b - a) * weight
    return input


upsample = interpolate
