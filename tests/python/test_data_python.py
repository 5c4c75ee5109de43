"""Datasets, samplers and the loader; files; the random generator."""

import threading
import time

import numpy as np
import pytest
import tensorgrad as tg
from tensorgrad.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n, delay=0.0):
        self.n, self.delay = n, delay

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        time.sleep(self.delay)
        if i >= self.n:
            raise IndexError(i)
        return {"x": tg.tensor([float(i)]), "square": i * i, "name": f"n{i}"}


def test_batches():
    data = TensorDataset(tg.arange(10.0).reshape(10, 1), tg.arange(10))
    batches = list(DataLoader(data, batch_size=4))
    assert [b[1].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0][0].shape == (4, 1) and isinstance(batches[0], list)
    assert len(DataLoader(data, 4)) == 3 and len(DataLoader(data, 4, drop_last=True)) == 2
    assert [b[1].tolist() for b in DataLoader(data, 4, drop_last=True)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_change_nothing(workers):
    def epoch():
        loader = DataLoader(Squares(23), 4, shuffle=True, num_workers=workers, generator=tg.Generator().manual_seed(3))
        return [(b["square"].tolist(), b["name"]) for b in loader]

    expected = [
        (b["square"].tolist(), b["name"])
        for b in DataLoader(Squares(23), 4, shuffle=True, generator=tg.Generator().manual_seed(3))
    ]
    assert epoch() == expected
    assert sorted(n for b, _ in expected for n in b) == [i * i for i in range(23)]


def test_shuffling_differs_by_epoch_and_follows_the_seed():
    loader = DataLoader(TensorDataset(tg.arange(50)), 50, shuffle=True)
    tg.manual_seed(1)
    first, second = next(iter(loader))[0].tolist(), next(iter(loader))[0].tolist()
    assert first != second
    tg.manual_seed(1)
    assert next(iter(loader))[0].tolist() == first


def test_workers_prefetch_and_stop_when_dropped():
    before = threading.active_count()
    loader = DataLoader(Squares(40, delay=0.005), 4, num_workers=4)
    begin = time.perf_counter()
    assert len(list(loader)) == 10
    assert time.perf_counter() - begin < 0.15 + 40 * 0.005
    iterator = iter(loader)
    next(iterator)
    del iterator
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_errors_of_workers_arrive():
    class Broken(Squares):
        def __getitem__(self, i):
            if i == 5:
                raise KeyError("sample 5")
            return super().__getitem__(i)

    for workers in (0, 2):
        iterator = iter(DataLoader(Broken(10), 2, num_workers=workers))
        next(iterator), next(iterator)
        with pytest.raises(KeyError, match="sample 5"):
            next(iterator)


def test_resume_in_the_middle_of_a_pass():
    def loader():
        return DataLoader(TensorDataset(tg.arange(40)), 4, shuffle=True, generator=tg.Generator().manual_seed(9))

    whole = [b[0].tolist() for b in loader()]
    first = loader()
    iterator = iter(first)
    for _ in range(4):
        next(iterator)
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert [b[0].tolist() for b in second] == whole[4:]
    with pytest.raises(ValueError):
        DataLoader(TensorDataset(tg.arange(8)), 4).load_state_dict(state)


def test_datasets():
    a, b = TensorDataset(tg.arange(4)), TensorDataset(tg.arange(4, 6))
    both = ConcatDataset([a, b])
    assert len(a + b) == 6 and both[4][0].item() == 4 and both[-1][0].item() == 5
    assert [v[0].item() for v in Subset(both, [5, 0])] == [5, 0]
    assert StackDataset(a, a)[1][1][0].item() == 1
    parts = random_split(Squares(10), [7, 3], generator=tg.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [7, 3]
    assert sorted(parts[0].indices + parts[1].indices) == list(range(10))
    assert [len(p) for p in random_split(Squares(10), [0.5, 0.25, 0.25])] == [6, 2, 2]
    with pytest.raises(ValueError):
        random_split(Squares(10), [3, 3])
    with pytest.raises((AssertionError, ValueError)):
        TensorDataset(tg.ones(2), tg.ones(3))


def test_streams():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(5))

    assert [b.tolist() for b in DataLoader(Stream(), 2)] == [[0, 1], [2, 3], [4]]
    with pytest.raises(ValueError):
        DataLoader(Stream(), shuffle=True)


def test_samplers():
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(RandomSampler(range(5))) == [0, 1, 2, 3, 4]
    assert len(list(RandomSampler(range(3), replacement=True, num_samples=10))) == 10
    assert list(BatchSampler(SequentialSampler(range(5)), 2, False)) == [[0, 1], [2, 3], [4]]
    drawn = list(WeightedRandomSampler([0.0, 1.0, 3.0], 400))
    assert 0 not in drawn and drawn.count(2) > drawn.count(1)
    assert sorted(WeightedRandomSampler([1.0, 1.0, 1.0], 3, replacement=False)) == [0, 1, 2]


def test_collate():
    assert default_collate([1, 2]).tolist() == [1, 2]
    assert default_collate([1.5, 2.5]).dtype is tg.float64
    assert default_collate([np.ones(2), np.zeros(2)]).shape == (2, 2)
    assert default_collate([np.float32(1), np.float32(2)]).dtype is tg.float32
    assert default_collate(["a", "b"]) == ["a", "b"]
    mixed = default_collate([{"a": (1, [tg.ones(2)])}, {"a": (2, [tg.zeros(2)])}])
    assert mixed["a"][0].tolist() == [1, 2] and mixed["a"][1][0].shape == (2, 2)
    with pytest.raises(TypeError):
        default_collate([object()])
    with pytest.raises(RuntimeError):
        default_collate([tg.ones(2), tg.ones(3)])


@pytest.mark.parametrize(
    "bad",
    [
        dict(batch_size=0),
        dict(num_workers=-1),
        dict(shuffle=True, sampler=[0]),
        dict(prefetch_factor=2),
        dict(batch_sampler=[[0]], batch_size=2),
        dict(batch_size=None, drop_last=True),
        dict(timeout=-1),
    ],
)
def test_loader_refuses(bad):
    with pytest.raises(ValueError):
        DataLoader(Squares(4), **bad)


def test_generator():
    g = tg.Generator()
    assert g.manual_seed(3) is g and g.initial_seed() == 3
    state = g.get_state()
    a = tg.rand(5, generator=g).tolist()
    g.set_state(state)
    assert tg.rand(5, generator=g).tolist() == a
    tg.manual_seed(7)
    b = tg.randn(3).tolist()
    with tg.random.fork_rng():
        tg.rand(100)
    c = tg.randn(3).tolist()
    tg.manual_seed(7)
    assert tg.randn(3).tolist() == b and tg.randn(3).tolist() == c
    assert tg.manual_seed(-1).initial_seed() == 2**64 - 1
    state = tg.get_rng_state()
    x = tg.randperm(10).tolist()
    tg.set_rng_state(state)
    assert tg.randperm(10).tolist() == x and sorted(x) == list(range(10))
    with pytest.raises((ValueError, RuntimeError)):
        g.set_state(tg.zeros(3, dtype=tg.uint8))
    assert tg.seed() != tg.seed()


def test_numbers_do_not_depend_on_threads():
    before = tg.get_num_threads()
    results = []
    for n in (1, 2, 3):
        tg.set_num_threads(n)
        tg.manual_seed(0)
        results.append((tg.randn(100_000).sum().item(), tg.rand(100_000).sum().item()))
    tg.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_save_and_load(tmp_path):
    net = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.BatchNorm1d(3))
    optimizer = tg.optim.Adam(net.parameters())
    net(tg.randn(4, 2)).sum().backward()
    optimizer.step()
    path = tmp_path / "state.safetensors"
    state = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "names": ["a", None],
        "rate": 0.5,
        "on": True,
    }
    tg.save(state, path)
    back = tg.load(path)
    assert back["epoch"] == 3 and back["names"] == ["a", None] and back["rate"] == 0.5 and back["on"] is True
    other = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.BatchNorm1d(3))
    other.load_state_dict(back["model"])
    assert other[0].weight.tolist() == net[0].weight.tolist()
    twin = tg.optim.Adam(other.parameters())
    twin.load_state_dict(back["optimizer"])
    assert twin.state_dict()["state"][0]["exp_avg"].tolist() == optimizer.state_dict()["state"][0]["exp_avg"].tolist()
    with pytest.raises(TypeError):
        tg.save({"x": object()}, path)
    with pytest.raises(OSError):
        tg.load(tmp_path / "missing")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(OSError):
        tg.load(path)
    tg.save(tg.ones(2), tmp_path / "one.safetensors")
    assert tg.load(tmp_path / "one.safetensors").tolist() == [1, 1]
