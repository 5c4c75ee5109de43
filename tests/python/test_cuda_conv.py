"""Float32 convolutions and products on a device by kernels of the library's own (TENSORGRAD_CUDA_OWN=N takes the Nth of
them instead of the fastest way), beside the CPU: small whole numbers, which TF32 and float32 sums hold exactly. Skipped
without a device."""

import os
import subprocess
import sys

import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

# input's shape, out channels, kernel, options
SHAPES = [
    ((2, 3, 32, 32), 16, 3, {}),
    ((1, 1, 1, 1), 1, 1, {}),
    ((8, 32, 17, 19), 64, 3, {}),
    ((3, 5, 13, 11), 7, (3, 2), {"padding": (2, 1)}),
    ((2, 16, 24, 24), 33, 1, {}),
    ((2, 16, 24, 25), 40, 1, {"stride": 2}),
    ((2, 12, 31, 29), 20, 5, {"stride": (2, 3), "padding": 2}),
    ((1, 64, 9, 9), 130, 3, {"padding": 1, "dilation": 2}),
    ((2, 24, 14, 14), 48, 3, {"padding": 1, "groups": 2}),
    ((2, 6, 15, 15), 12, 3, {"padding": 1, "groups": 6}),
    ((1, 3, 64, 64), 65, 7, {"stride": 2, "padding": 3}),
    ((4, 256, 7, 7), 512, 3, {"padding": 1}),
    ((1, 1024, 5, 5), 200, 3, {"padding": 1}),
    ((1, 200, 3, 3), 100, 3, {"padding": 4}),
    ((2, 7, 130), 9, 5, {"padding": 2, "dilation": 3}),
    ((3, 16, 1000), 32, 9, {"stride": 4}),
]


def whole(*shape):
    return tg.randint(-3, 4, shape).float()


def check(shape, out, kernel, options, bias):
    space = len(shape) - 2
    conv = tg.nn.functional.conv2d if space == 2 else tg.nn.functional.conv1d
    sides = kernel if isinstance(kernel, tuple) else (kernel,) * space
    weight = whole(out, shape[1] // options.get("groups", 1), *sides)
    plain = [whole(*shape), weight] + ([whole(out)] if bias else [])
    for t in plain:
        t.requires_grad_()
    moved = [t.detach().to("cuda").requires_grad_() for t in plain]
    expected, found = conv(*plain, **options), conv(*moved, **options)
    grad = whole(*expected.shape)
    expected.backward(grad)
    found.backward(grad.to("cuda"))
    names = ["output", "input's gradient", "weight's gradient", "bias's gradient"]
    pairs = zip(names, [found, *(t.grad for t in moved)], [expected, *(t.grad for t in plain)])
    for name, ours, theirs in pairs:
        wrong = (ours.detach().cpu() != theirs.detach()).sum().item()
        where = f"{name} of {shape}, {out} channels, kernel {kernel}, {options}, bias {bias}"
        near = name == "weight's gradient" and tg.allclose(ours.cpu(), theirs, rtol=1e-3, atol=1e-2)  # cuDNN's
        assert wrong == 0 or near, f"{wrong} of {where}"


# rows, depth, columns
PRODUCTS = [
    (1, 1, 1),
    (64, 1024, 2048),
    (65, 70, 67),
    (130, 999, 63),
    (33, 2048, 40),
    (512, 100, 512),
    (3, 5000, 7),
    (200, 1000, 1001),
    (1000, 64, 10),
]


def check_product(rows, depth, columns):
    a, b, bias = whole(rows, depth), whole(depth, columns), whole(columns)
    expected = a @ b
    for a_turned in (False, True):
        for b_turned in (False, True):
            for off in (0, 1):  # floats from an address of packs
                x = placed(a.t() if a_turned else a, off)
                y = placed(b.t() if b_turned else b, off)
                found = (x.t() if a_turned else x) @ (y.t() if b_turned else y)
                assert tg.equal(found.cpu(), expected), (rows, depth, columns, a_turned, b_turned, off)
    found = tg.nn.functional.linear(a.to("cuda"), b.t().contiguous().to("cuda"), bias.to("cuda"))
    assert tg.equal(found.cpu(), expected + bias)
    batch = tg.stack([a, -a, a + 1])
    assert tg.equal((batch.to("cuda") @ b.to("cuda")).cpu(), tg.stack([expected, -expected, (a + 1) @ b]))
    several = tg.stack([b, b - 1, -b])
    assert tg.equal((batch.to("cuda") @ several.to("cuda")).cpu(), batch @ several)


def placed(t, off):
    return tg.cat([t.new_zeros(off), t.reshape(-1)]).to("cuda")[off:].reshape(t.shape)


@pytest.mark.parametrize("product", range(8))
def test_products_of_tiles_are_exact_for_whole_numbers(product):
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"TENSORGRAD_CUDA_OWN": str(product)},
        capture_output=True,
        text=True,
        timeout=140,
    )
    assert done.returncode == 0, done.stderr[-2000:]


if __name__ == "__main__":
    tg.manual_seed(3)
    for case in SHAPES:
        for with_bias in (True, False):
            check(*case, with_bias)
    for sizes in PRODUCTS:
        check_product(*sizes)
