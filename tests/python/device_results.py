"""Results of a CUDA device beside the CPU's, exactly."""

import numpy as np
import tensorgrad as tg

DEVICE = "cuda"


def same(ours, expected):
    ours, expected = ([t] if isinstance(t, tg.Tensor) else list(t) for t in (ours, expected))
    for a, b in zip(ours, expected, strict=True):
        assert a.device.type == DEVICE and a.dtype == b.dtype and a.shape == b.shape
        if b.dtype in (tg.float16, tg.bfloat16):
            a, b = a.float(), b.float()
        np.testing.assert_array_equal(a.detach().cpu().numpy(), b.detach().numpy())


def check(f, *inputs):
    same(f(*(t.to(DEVICE) for t in inputs)), f(*inputs))
