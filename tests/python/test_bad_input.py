"""Bad input: a typed error of the class that PyTorch raises, never a crash, and nothing accepted that PyTorch refuses.
Every line runs in both libraries; the last tests are about files."""

import json
import os
import struct
import subprocess
import sys

import pytest

tensorgrad = pytest.importorskip("tensorgrad")

REFUSED = """
torch.zeros(2, 3) @ torch.zeros(2, 3)
torch.zeros(2, 3) + torch.zeros(2, 4)
torch.zeros(2, 3).reshape(4, 2)
torch.zeros(2, 3).reshape(-1, -1)
torch.zeros(2, 3).view(5)
torch.zeros(2, 3).t().view(6)
torch.zeros(2, 3).permute(0, 0)
torch.zeros(2, 3).permute(0)
torch.zeros(2, 3).transpose(0, 2)
torch.zeros(2, 3).expand(2, 4)
torch.zeros(2, 3).expand(3)
torch.zeros(2, 3).squeeze(5)
torch.zeros(2, 3).unsqueeze(4)
torch.zeros(2, 3).sum(2)
torch.zeros(2, 3).sum((0, 0))
torch.zeros(2, 3).mean(-3)
torch.zeros(2, 3).argmax(7)
torch.zeros(0).max()
torch.zeros(0, 3).max(0)
torch.zeros(0).argmax()
torch.zeros(2, 3)[2]
torch.zeros(2, 3)[0, 3]
torch.zeros(2, 3)[0, 0, 0]
torch.zeros(2, 3)[torch.tensor([5])]
torch.zeros(2, 3)[torch.zeros(3, dtype=torch.bool)]
torch.zeros(2, 3)[torch.zeros(2)]
torch.zeros(2, 3)['a']
torch.zeros(2, 3).__setitem__(5, 1.0)
torch.zeros(2, 3).__setitem__(0, torch.zeros(4))
torch.zeros(2, 3).narrow(0, 1, 5)
torch.zeros(2, 3).select(0, 2)
torch.zeros(2, 3).split((1, 2))
torch.zeros(2, 3).split(-1)
torch.zeros(2, 3).chunk(0)
torch.cat([])
torch.cat([torch.zeros(2, 3), torch.zeros(2, 4)])
torch.cat([torch.zeros(2, 3), torch.zeros(3)])
torch.stack([torch.zeros(2), torch.zeros(3)])
torch.zeros(2, 3).gather(0, torch.tensor([[5, 0, 0]]))
torch.zeros(2, 3).gather(1, torch.zeros(2, 3))
torch.zeros(2, 3).index_select(0, torch.tensor([2]))
torch.zeros(2, 3).scatter_add(1, torch.tensor([[3]]), torch.ones(1, 1))
torch.zeros(2, 3).masked_fill(torch.zeros(2, 3), 1.0)
torch.zeros(2, 3).masked_fill_(torch.zeros(5, dtype=torch.bool), 1.0)
torch.zeros(5).topk(6)
torch.zeros(2, 3).bmm(torch.zeros(2, 3))
torch.zeros(2, 3) @ torch.zeros(3, 4, dtype=torch.float64)
torch.zeros(2, 3, dtype=torch.int64).softmax(0)
torch.zeros(2, 3, dtype=torch.int64).mean()
torch.zeros(3, dtype=torch.int64).add_(torch.ones(3))
torch.zeros(3, dtype=torch.bool) - torch.ones(3, dtype=torch.bool)
-torch.zeros(3, dtype=torch.bool)
~torch.zeros(3)
torch.zeros(3, dtype=torch.int64, requires_grad=True)
torch.zeros(3).add_(torch.zeros(2, 3))
torch.zeros(3).item()
bool(torch.zeros(3))
float(torch.zeros(3))
len(torch.tensor(1.0))
torch.tensor(1.0)[0]
torch.tensor([[1, 2], [3]])
torch.tensor('a')
torch.tensor([None])
torch.zeros(-1)
torch.zeros(2, -3)
torch.zeros(2, 3, dtype='float32')
torch.zeros(2, device='nonsense')
torch.empty(2**40, 2**40)
torch.arange(0, 5, 0)
torch.arange(0, 5, -1)
torch.linspace(0, 1, -1)
torch.eye(-1)
torch.randint(5, 5, (2,))
torch.randperm(-1)
torch.bernoulli(torch.tensor([1.5]))
torch.ones(3).requires_grad_().sum().backward(torch.ones(2))
torch.ones(3, requires_grad=True).backward()
torch.ones(3).sum().backward()
torch.ones(3, requires_grad=True).numpy()
torch.ones(3, requires_grad=True).add_(1)
F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 2, 3, 3))
F.conv2d(torch.zeros(1, 3, 2, 2), torch.zeros(4, 3, 3, 3))
F.conv2d(torch.zeros(3, 8), torch.zeros(4, 3, 3, 3))
F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3), stride=0)
F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3), padding=-1)
F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3), groups=2)
F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3), padding='nonsense')
F.max_pool2d(torch.zeros(1, 3, 8, 8), 3, padding=2)
F.max_pool2d(torch.zeros(1, 3, 2, 2), 3)
F.linear(torch.zeros(2, 3), torch.zeros(4, 2))
F.layer_norm(torch.zeros(2, 3), (2,))
F.batch_norm(torch.zeros(1, 3), None, None, training=True)
F.embedding(torch.tensor([3]), torch.zeros(3, 2))
F.embedding(torch.tensor([-1]), torch.zeros(3, 2))
F.embedding(torch.tensor([0.5]), torch.zeros(3, 2))
F.dropout(torch.zeros(3), 1.5)
F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 3]))
F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1, 2]))
F.cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), reduction='nonsense')
F.one_hot(torch.tensor([-1]), 3)
F.one_hot(torch.tensor([3]), 3)
F.scaled_dot_product_attention(torch.zeros(2, 4, 8), torch.zeros(2, 4, 6), torch.zeros(2, 4, 8))
nn.Linear(3, 4)(torch.zeros(2, 5))
nn.Conv2d(3, 4, 3, groups=2)
nn.MultiheadAttention(5, 2)
nn.BatchNorm2d(3)(torch.zeros(2, 3))
nn.Linear(3, 4).load_state_dict({})
nn.Linear(3, 4).load_state_dict({'weight': torch.zeros(4, 4), 'bias': torch.zeros(4)})
nn.Linear(3, 4).nonsense
torch.optim.SGD([], lr=0.1)
torch.optim.SGD([torch.zeros(3, requires_grad=True)], lr=-1.0)
torch.optim.Adam([torch.zeros(3, requires_grad=True)], betas=(1.5, 0.9))
torch.optim.SGD(torch.zeros(3, requires_grad=True), lr=0.1)
torch.autograd.grad(torch.ones(3, requires_grad=True).sum(), torch.ones(2, requires_grad=True))
torch.set_num_threads(0)
torch.zeros(2, 3).nonsense
torch.nonsense(3)
torch.zeros(2, 3, nonsense=1)
""".strip().splitlines()


FAMILIES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OSError)


def outcome(library, line):
    names = {"torch": library, "nn": library.nn, "F": library.nn.functional}
    try:
        eval(line, names)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("line", REFUSED)
def test_refuses_what_pytorch_refuses_with_the_same_class(line):
    error = outcome(tensorgrad, line)
    assert error is not None, "accepted"
    assert str(error), "an error without a message"
    torch = pytest.importorskip("torch")
    expected = outcome(torch, line)
    assert expected is not None, "PyTorch accepts this line"
    # NotImplementedError is a RuntimeError, and our ShapeError both a RuntimeError and a ValueError.
    shared = [kind for kind in FAMILIES if isinstance(error, kind) and isinstance(expected, kind)]
    assert shared, f"{error!r}; PyTorch: {expected!r}"


def test_a_saved_tensor_that_was_changed_in_place_is_noticed():
    x = tensorgrad.ones(3, requires_grad=True)
    y = x.exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="in.?place|version"):
        y.sum().backward()


def test_backward_twice_without_retain_graph_is_an_error():
    x = tensorgrad.ones(3, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph|second time"):
        y.backward()


def test_a_device_that_is_absent_is_a_clear_error():
    if tensorgrad.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises((RuntimeError, AssertionError), match="(?i)cuda"):
        tensorgrad.zeros(3, device="cuda")


def damaged(good: bytes):
    """Files that lie: truncated, oversized, with a header that promises what is not there."""
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])

    def with_header(change):
        changed = json.loads(json.dumps(header))
        change(changed["w"])
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + good[8 + length :]

    yield "empty", b""
    yield "short", good[:5]
    yield "cut in the header", good[: 8 + length // 2]
    yield "cut in the data", good[:-3]
    yield "too long", good + b"x"
    yield "header longer than the file", struct.pack("<Q", 1 << 40) + good[8:]
    yield "header length overflows", struct.pack("<Q", (1 << 64) - 1) + good[8:]
    yield "not JSON", good[:8] + b"x" * length + good[8 + length :]
    yield "offsets past the end", with_header(lambda w: w.update(data_offsets=[0, 1 << 40]))
    yield "offsets backwards", with_header(lambda w: w.update(data_offsets=[8, 0]))
    yield "negative shape", with_header(lambda w: w.update(shape=[-2, -3]))
    yield "shape of another size", with_header(lambda w: w.update(shape=[5, 3]))
    yield "shape that overflows", with_header(lambda w: w.update(shape=[1 << 40, 1 << 40]))
    yield "unknown dtype", with_header(lambda w: w.update(dtype="Q7"))
    yield "shape that is no list", with_header(lambda w: w.update(shape="many"))


def test_damaged_checkpoints_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    tensorgrad.save({"w": tensorgrad.ones(2, 3)}, str(path))
    good = path.read_bytes()
    for name, content in damaged(good):
        path.write_bytes(content)
        with pytest.raises((OSError, RuntimeError, ValueError)) as caught:
            tensorgrad.load(str(path))
            pytest.fail(f"accepted a file that is damaged: {name}")
        assert "w.safetensors" in str(caught.value), f"{name}: {caught.value}"
    path.write_bytes(good)
    assert tensorgrad.load(str(path))["w"].tolist() == [[1.0] * 3] * 2


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(OSError, match="absent"):
        tensorgrad.load(str(tmp_path / "absent.safetensors"))
    with pytest.raises(OSError, match="nowhere"):
        tensorgrad.save({"w": tensorgrad.ones(2)}, str(tmp_path / "nowhere" / "w.safetensors"))


FULL_DISK = """
import resource, signal, sys
import tensorgrad
path = sys.argv[1]
tensorgrad.save({"w": tensorgrad.ones(4)}, path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
try:
    tensorgrad.save({"w": tensorgrad.zeros(1 << 20)}, path)
except OSError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(tensorgrad.load(path)["w"].tolist())
"""


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "w.safetensors"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout and done.stdout.strip().endswith("[1.0, 1.0, 1.0, 1.0]")
    assert os.listdir(tmp_path) == ["w.safetensors"], "a temporary file was left behind"
