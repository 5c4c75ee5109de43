"""Memory shared with NumPy, DLPack and PyTorch; weights taken over; what importing costs."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorgrad as tg

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_memory_both_ways(dtype):
    array = np.zeros((3, 4), dtype=dtype)
    t = tg.from_numpy(array)
    assert str(t.dtype) == f"torch.{dtype}" and t.shape == (3, 4)
    array[1, 2] = 1
    assert t[1, 2].item() == 1
    t[0, 0] = 1
    assert array[0, 0] == 1
    back = t.numpy()
    assert back.dtype == array.dtype
    back[2, 3] = 1
    assert array[2, 3] == 1


def test_numpy_views_and_odd_arrays():
    array = np.arange(24.0).reshape(2, 3, 4)
    for view in (array.transpose(2, 0, 1), array[:, 1], array[..., ::2], array[0, 0, 0:0], np.array(3.0)):
        t = tg.from_numpy(view)
        np.testing.assert_array_equal(t.numpy(), view)
        assert np.shares_memory(t.numpy(), view) or view.size == 0
    with pytest.raises(ValueError):
        tg.from_numpy(array[::-1])
    with pytest.raises(TypeError):
        tg.from_numpy(np.array(["text"]))
    with pytest.raises(NotImplementedError):
        tg.from_numpy(np.zeros(2, dtype=np.complex64))
    with pytest.raises(TypeError):
        tg.from_numpy(np.zeros(2, dtype=[("a", "f4")]))
    with pytest.raises(TypeError):
        tg.from_numpy([1.0])
    assert tg.tensor(array.astype(">f4").astype("f4")).shape == (2, 3, 4)


def test_memory_outlives_its_maker():
    t = tg.from_numpy(np.full(1000, 7.0))
    assert t.sum().item() == 7000
    array = tg.full((1000,), 3.0).numpy()
    assert array.sum() == 3000


def test_tensor_copies_and_as_tensor_shares():
    array = np.zeros(3)
    copy, shared = tg.tensor(array), tg.as_tensor(array)
    array[0] = 5
    assert copy[0].item() == 0 and shared[0].item() == 5


def test_numpy_functions_take_tensors():
    t = tg.arange(4.0)
    np.testing.assert_array_equal(np.asarray(t), [0, 1, 2, 3])
    assert np.asarray(t, dtype=np.int32).dtype == np.int32
    assert np.sqrt(t).tolist() == [0.0, 1.0, np.sqrt(np.float32(2)), np.sqrt(np.float32(3))]
    with pytest.raises(RuntimeError):
        np.asarray(tg.ones(2, requires_grad=True) * 2)


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_dlpack_with_torch(dtype):
    torch = pytest.importorskip("torch")
    mine = tg.arange(6).to(getattr(tg, dtype)).reshape(2, 3)
    theirs = torch.from_dlpack(mine)
    assert str(theirs.dtype) == f"torch.{dtype}" and theirs.tolist() == mine.tolist()
    theirs[0, 1] = 0
    assert mine[0, 1].item() == 0
    source = torch.arange(6).to(getattr(torch, dtype)).reshape(2, 3).t()
    taken = tg.from_dlpack(source)
    assert taken.tolist() == source.tolist() and taken.stride() == source.stride()
    source[2, 1] = 0
    assert taken[2, 1].item() == 0


def test_dlpack_capsules_are_used_once():
    capsule = tg.ones(3).__dlpack__()
    assert tg.from_dlpack(capsule).tolist() == [1, 1, 1]
    with pytest.raises(ValueError):
        tg.from_dlpack(capsule)
    with pytest.raises(ValueError):
        tg.from_dlpack(3)
    unused = tg.ones(3).__dlpack__()
    del unused
    with pytest.raises(BufferError):
        tg.ones(2, requires_grad=True).__dlpack__()
    assert tg.ones(2).__dlpack_device__() == (1, 0)


def test_numpy_takes_dlpack():
    t = tg.arange(4.0)
    array = np.from_dlpack(t)
    np.testing.assert_array_equal(array, [0, 1, 2, 3])
    assert tg.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]


def test_init_from_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 36, 5),
    )
    theirs(torch.randn(4, 3, 8, 8))
    mine = tg.nn.Sequential(
        tg.nn.Conv2d(3, 8, 3), tg.nn.BatchNorm2d(8), tg.nn.ReLU(), tg.nn.Flatten(), tg.nn.Linear(8 * 36, 5)
    )
    tg.init_from_torch(mine, theirs)
    x = torch.randn(2, 3, 8, 8)
    theirs.eval(), mine.eval()
    np.testing.assert_allclose(
        mine(tg.from_numpy(x.numpy())).detach().numpy(), theirs(x).detach().numpy(), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(RuntimeError):
        tg.init_from_torch(tg.nn.Linear(3, 4), torch.nn.Linear(4, 3))


def test_numpy_is_not_imported_before_it_is_needed():
    code = "import sys, tensorgrad; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_other_threads_run_while_a_kernel_does():
    x = tg.randn(900, 900)
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    for _ in range(20):
        x @ x
    stop.set()
    thread.join()
    assert len(ticks) > 5


def test_threads_share_tensors():
    x = tg.randn(64, 64)
    expected = (x @ x).sum().item()
    results = []

    def work():
        for _ in range(50):
            results.append((x @ x).sum().item())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200 and all(abs(r - expected) < 1e-3 for r in results)


def test_number_of_threads():
    before = tg.get_num_threads()
    tg.set_num_threads(1)
    assert tg.get_num_threads() == 1
    tg.set_num_threads(before)
    with pytest.raises((RuntimeError, ValueError)):
        tg.set_num_threads(0)


def test_cuda_says_what_is_there():
    assert tg.cuda.is_available() == (tg.cuda.device_count() > 0)
    if not tg.cuda.is_available():
        with pytest.raises(RuntimeError, match="(?i)cuda"):
            tg.ones(2, device="cuda")
        tg.cuda.manual_seed_all(3)
