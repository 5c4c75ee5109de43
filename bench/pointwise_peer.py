"""Times the cases of bench_pointwise on PyTorch, in a process of its own, and prints both beside each other.

python3 bench/pointwise_peer.py build/bench/bench_pointwise
"""

import subprocess
import sys
import time

CASES_SECONDS = 0.05


def time_of(body):
    body()
    begin = time.perf_counter()
    body()
    once = time.perf_counter() - begin
    batch = max(1, int(5e-4 / max(once, 1e-9)))
    best = 1e9
    stop = time.perf_counter() + CASES_SECONDS
    while True:
        begin = time.perf_counter()
        for _ in range(batch):
            body()
        best = min(best, (time.perf_counter() - begin) / batch)
        if time.perf_counter() >= stop:
            return best


def cases():
    import torch

    torch.set_grad_enabled(False)

    def filled(*sizes, dtype=torch.float32):
        n = torch.Size(sizes).numel()
        return ((torch.arange(n) % 1000) * 0.003 + 0.25).to(dtype).reshape(sizes)

    def show(name, body):
        print(f"{name}\t{time_of(body) * 1e6:.3f}", flush=True)

    for dtype in (torch.float32, torch.float64, torch.int64, torch.bfloat16):
        for n in (64, 4096, 262144, 4194304):
            a, b = filled(n, dtype=dtype), filled(n, dtype=dtype)
            tag = f"{str(dtype)[6:]} {n}"
            show("add " + tag, lambda a=a, b=b: a + b)
            show("mul_scalar " + tag, lambda a=a: a * 2)
            show("gt " + tag, lambda a=a, b=b: a > b)
            show("div " + tag, lambda a=a, b=b: a / b)
            if dtype == torch.int64:
                continue
            show("exp " + tag, lambda a=a: torch.exp(a))
            show("sigmoid " + tag, lambda a=a: torch.sigmoid(a))
            show("gelu " + tag, lambda a=a: torch.nn.functional.gelu(a))
            show("log " + tag, lambda a=a: torch.log(a))
            show("sin " + tag, lambda a=a: torch.sin(a))
            show("pow " + tag, lambda a=a, b=b: torch.pow(a, b))
            show("remainder " + tag, lambda a=a, b=b: torch.remainder(a, b))
    for rows, columns in ((1000, 3), (3, 1000), (513, 511), (2048, 2048)):
        a, row, column, other = filled(rows, columns), filled(columns), filled(rows, 1), filled(columns, rows)
        tag = f"{rows}x{columns}"
        show("add_row " + tag, lambda a=a, row=row: a + row)
        show("add_column " + tag, lambda a=a, column=column: a + column)
        show("outer " + tag, lambda row=row, column=column: row * column)
        show("add_transposed " + tag, lambda a=a, other=other: a + other.t())
        show("contiguous " + tag, lambda other=other: other.t().contiguous())
        show("every_second " + tag, lambda a=a: a[:, ::2] + 1)
        show("to_half " + tag, lambda a=a: a.to(torch.float16))
    image, scale = filled(8, 64, 56, 56), filled(64, 1, 1)
    show("channel_scale 8x64x56x56", lambda: image * scale)
    show("to_channels_last 8x64x56x56", lambda: image.permute(0, 2, 3, 1).contiguous())
    heads = filled(32, 128, 4, 64)
    show("heads 32x128x4x64", lambda: heads.permute(0, 2, 1, 3).contiguous())
    many = filled(4, 5, 6, 7, 8, 9)
    show("reversed_dims 4x5x6x7x8x9", lambda: many.permute(5, 4, 3, 2, 1, 0).contiguous())


def table(text):
    return dict(line.split("\t") for line in text.splitlines() if "\t" in line)


def main():
    ours = table(subprocess.run([sys.argv[1], "cases"], capture_output=True, text=True, check=True).stdout)
    peer = table(
        subprocess.run([sys.executable, __file__, "--peer"], capture_output=True, text=True, check=True).stdout
    )
    print(f"{'case':34}{'torch, us':>12}{'tensorgrad, us':>16}{'ratio':>8}")
    for name, t in peer.items():
        print(f"{name:34}{float(t):12.2f}{float(ours[name]):16.2f}{float(ours[name]) / float(t):8.2f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--peer"]:
        cases()
    else:
        main()
