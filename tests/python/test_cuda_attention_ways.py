"""Every way to compute attention of float32 on a CUDA device, beside the CPU in float64. Which one a program uses is
timed; here TENSORGRAD_CUDA_ATTENTION chooses, which a process reads once, so each way has a process of its own. Skipped
without a device."""

import os
import subprocess
import sys

import pytest
import tensorgrad as tg

needs_device = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

F = tg.nn.functional


def attend(q, k, v, **options):
    return F.scaled_dot_product_attention(q, k, v, **options)


def hidden(q, k, v):
    i, j = tg.arange(q.size(-2), device=q.device), tg.arange(k.size(-2), device=q.device)
    return attend(q, k, v, attn_mask=(i.reshape(-1, 1) + j) % 5 < i.reshape(-1, 1) % 4)  # every fourth row sees nothing


def biased(q, k, v):
    i, j = tg.arange(q.size(-2), device=q.device), tg.arange(k.size(-2), device=q.device)
    return attend(q, k, v, attn_mask=((i.reshape(-1, 1) - j) % 7).to(q.dtype))


def causal(q, k, v):
    return attend(q, k, v, is_causal=True)


def dropped(q, k, v, **options):
    tg.manual_seed(5)  # the CPU and the device drop the same elements then
    return attend(q, k, v, dropout_p=0.3, **options)


def packed(q, k, v, f=attend):
    """Heads inside of rows: (batch, rows, heads, size)."""
    return f(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)


# Sizes around a tile's: 64 queries, 128 keys, heads of 33 to 64 or 65 to 128; more heads than one turn has room for.
CASES = {
    "a negative scale": (lambda *t: attend(*t, scale=-0.3), [(1, 2, 256, 64)] * 3),
    "whole tiles": (attend, [(2, 3, 256, 64)] * 3),
    "one tile": (attend, [(1, 1, 128, 64)] * 3),
    "odd sizes": (attend, [(2, 3, 150, 40), (2, 3, 171, 40), (2, 3, 171, 37)]),
    "a wider value": (attend, [(1, 2, 193, 20), (1, 2, 130, 20), (1, 2, 130, 60)]),
    "a narrow value": (attend, [(1, 2, 128, 61), (1, 2, 257, 61), (1, 2, 257, 3)]),
    "causal": (causal, [(2, 2, 385, 64)] * 3),
    "causal, more keys": (causal, [(2, 1, 190, 64), (2, 1, 700, 64), (2, 1, 700, 48)]),
    "causal, more queries": (causal, [(1, 2, 700, 64), (1, 2, 190, 64), (1, 2, 190, 64)]),
    "packed heads": (packed, [(2, 150, 3, 64), (2, 131, 3, 64), (2, 131, 3, 64)]),
    "packed heads, causal": (lambda *t: packed(*t, causal), [(3, 330, 2, 64)] * 3),
    "hidden rows": (hidden, [(2, 2, 140, 64)] * 3),
    "a bias": (biased, [(2, 2, 140, 64), (2, 2, 177, 64), (2, 2, 177, 64)]),
    "shared keys": (lambda *t: attend(*t, enable_gqa=True), [(2, 4, 150, 64), (2, 2, 130, 64), (2, 2, 130, 64)]),
    "wide heads": (attend, [(2, 3, 256, 128)] * 3),
    "wide heads of odd sizes": (attend, [(2, 3, 150, 70), (2, 3, 171, 70), (2, 3, 171, 101)]),
    "wide heads, causal": (causal, [(2, 2, 333, 96), (2, 2, 333, 96), (2, 2, 333, 128)]),
    "wide heads, causal, more keys": (causal, [(1, 2, 190, 128), (1, 2, 500, 128), (1, 2, 500, 128)]),
    "wide packed heads with hidden rows": (lambda *t: packed(*t, hidden), [(2, 140, 3, 128)] * 3),
    "dropped, wide heads": (dropped, [(1, 3, 201, 128), (1, 3, 171, 128), (1, 3, 171, 80)]),
    "dropped": (dropped, [(2, 3, 193, 64), (2, 3, 171, 64), (2, 3, 171, 40)]),
    "dropped, whole tiles": (dropped, [(2, 2, 256, 64)] * 3),
    "dropped, causal": (lambda *t: dropped(*t, is_causal=True), [(1, 3, 330, 48)] * 3),
    "several turns of heads": (attend, [(1, 20, 2100, 36), (1, 20, 1900, 36), (1, 20, 1900, 36)]),
    "several turns of heads, causal": (causal, [(2, 30, 1500, 34)] * 3),
    "several turns of keys": (attend, [(1, 1, 8300, 36)] * 3),
    "several turns of keys, causal": (causal, [(1, 1, 11700, 34)] * 3),
}


def differences(f, shapes, drops):
    """The largest difference of the output and each gradient, of the largest number."""
    tg.manual_seed(len(shapes[0]) + shapes[0][-2])
    given = [tg.randn(*shape) for shape in shapes]
    # What is dropped may be drawn otherwise for float64.
    on_cpu = [(t.clone() if drops else t.double()).requires_grad_() for t in given]
    on_cuda = [t.to("cuda").requires_grad_() for t in given]
    expected, ours = f(*on_cpu), f(*on_cuda)
    up = tg.randn(*expected.shape)
    wanted = [expected, *tg.autograd.grad(expected, on_cpu, up.to(expected.dtype))]
    found = [ours, *tg.autograd.grad(ours, on_cuda, up.to("cuda"))]
    again = [ours, *tg.autograd.grad(f(*on_cuda), on_cuda, up.to("cuda"))]
    same = all((a == b).all().item() for a, b in zip(found[1:], again[1:], strict=True))
    pairs = zip(found, wanted, strict=True)
    return same, [((a.cpu().double() - e.double()).abs().max() / e.double().abs().max()).item() for a, e in pairs]


@needs_device
@pytest.mark.parametrize("way", ["tiles", "blocks", "once", "square"])
def test_way(way):
    environment = {**os.environ, "TENSORGRAD_CUDA_ATTENTION": way, "TENSORGRAD_CUDA_TRIALS": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == len(CASES), done.stdout
    for line in done.stdout.splitlines():
        assert line.endswith("agrees"), line
    assert f"attention{' backward' * (way != 'square')} by {way}: " in done.stderr


if __name__ == "__main__":
    for name, case in CASES.items():
        same_bits, off = differences(*case, drops=name.startswith("dropped"))
        good = same_bits and max(off) < 2e-5
        print(name, "same bits" if same_bits else "other bits", off, "agrees" if good else "differs")
