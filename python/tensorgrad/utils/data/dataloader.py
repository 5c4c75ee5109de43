"""Batches of a dataset, made in this thread or ahead of time by worker threads."""

import collections
import threading
from collections import namedtuple

from ... import _C
from .dataset import IterableDataset
from .sampler import BatchSampler, RandomSampler, SequentialSampler

WorkerInfo = namedtuple("WorkerInfo", ["id", "num_workers", "seed", "dataset"])
_local = threading.local()


def get_worker_info():
    """In a worker: its id, how many there are, its seed and the dataset. None elsewhere."""
    return getattr(_local, "info", None)


def default_collate(batch):
    """Stacks samples: tensors, arrays and numbers to tensors, tuples, lists and dicts element by element."""
    first = batch[0]
    if isinstance(first, _C.Tensor):
        return _C.stack(batch, 0)
    if isinstance(first, bool):
        return _C._tensor_from_data(batch, None)
    if isinstance(first, float):
        return _C._tensor_from_data(batch, _C.float64)
    if isinstance(first, int):
        return _C._tensor_from_data(batch, None)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, collections.abc.Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(list(column)) for column in zip(*batch)))
    if isinstance(first, collections.abc.Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return [default_collate(list(column)) for column in zip(*batch)]
    if type(first).__module__ == "numpy":
        import numpy

        if isinstance(first, numpy.ndarray) and first.dtype.kind in "SUO":
            raise TypeError(
                "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
                f"{first.dtype}"
            )
        return _C._tensor_from_data(numpy.stack([numpy.asarray(sample) for sample in batch]), None)
    raise TypeError(
        f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {type(first)}"
    )


class DataLoader:
    """Iterates over batches of a dataset.

    With num_workers > 0 that many threads make batches ahead of time (prefetch_factor each); the order of the batches,
    and with the same seed their content, does not depend on num_workers.
    """

    def __init__(
        self,
        dataset,
        batch_size=1,
        shuffle=None,
        sampler=None,
        batch_sampler=None,
        num_workers=0,
        collate_fn=None,
        pin_memory=False,
        drop_last=False,
        timeout=0,
        worker_init_fn=None,
        multiprocessing_context=None,
        generator=None,
        *,
        prefetch_factor=None,
        persistent_workers=False,
        pin_memory_device="",
        in_order=True,
    ):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing."
                "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
            )
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        iterable = isinstance(dataset, IterableDataset)
        if iterable and shuffle not in (None, False):
            raise ValueError(
                f"DataLoader with IterableDataset: expected unspecified shuffle option, but got shuffle={shuffle}"
            )
        if iterable and (sampler is not None or batch_sampler is not None):
            raise ValueError("DataLoader with IterableDataset: expected unspecified sampler option")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None and not iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None and not iterable:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers > 0 else prefetch_factor
        self.persistent_workers = persistent_workers
        self._iterable = iterable
        self._position, self._state, self._resume = 0, None, None
        auto = batch_sampler is not None or (iterable and batch_size is not None)
        self._plain_collate = collate_fn is None
        self.collate_fn = collate_fn if collate_fn is not None else (default_collate if auto else _as_tensor_if_array)
        self._auto = auto

    def __len__(self):
        if self._iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.batch_sampler if self._auto else self.sampler)

    def __iter__(self):
        if self._iterable:
            return self._iterate_stream()
        resume, self._resume = self._resume, None
        generator = self.generator if self.generator is not None else _C.default_generator
        if resume is None:
            self._position, self._state = 0, generator.get_state()
            indices = iter(self.batch_sampler if self._auto else self.sampler)
        else:
            # The interrupted pass: its order comes from the state that it started with.
            self._position, self._state = resume
            now = generator.get_state()
            generator.set_state(self._state)
            indices = iter(list(self.batch_sampler if self._auto else self.sampler)[self._position :])
            generator.set_state(now)
        if self.num_workers == 0:
            return self._count(map(self._fetch, indices))
        return self._count(_PrefetchIterator(_Prefetcher(self, indices, generator.initial_seed())))

    def _count(self, batches):
        for batch in batches:
            self._position += 1
            yield batch
        self._position, self._state = 0, None

    def state_dict(self):
        """Where the pass now running stands: load it into a loader of the same kind to go on with the next batch."""
        if self._state is None:
            return {"position": 0, "batches": len(self)}
        return {"position": self._position, "batches": len(self), "generator": self._state}

    def load_state_dict(self, state):
        """The next pass goes on where the one of `state` was."""
        if state["batches"] != len(self) or not 0 <= state["position"] <= len(self):
            raise ValueError(
                f"DataLoader.load_state_dict: the state is at batch {state['position']} of {state['batches']} but "
                "this loader has "
                f"{len(self)} batches"
            )
        self._resume = (state["position"], state["generator"]) if "generator" in state else None

    def _fetch(self, index):
        if not self._auto:
            return self.collate_fn(self.dataset[index])
        if self._plain_collate and hasattr(self.dataset, "get_batch"):
            return self.dataset.get_batch(index)
        if hasattr(self.dataset, "__getitems__"):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[i] for i in index])

    def _iterate_stream(self):
        if self.batch_size is None:
            yield from map(self.collate_fn, self.dataset)
            return
        batch = []
        for sample in self.dataset:
            batch.append(sample)
            if len(batch) == self.batch_size:
                yield self.collate_fn(batch)
                batch = []
        if batch and not self.drop_last:
            yield self.collate_fn(batch)


def _as_tensor_if_array(sample):
    return _C._tensor_from_data(sample, None) if type(sample).__module__ == "numpy" else sample


class _Prefetcher:
    """Threads that make batches ahead; batches come out in order, an exception at the batch it belongs to."""

    def __init__(self, loader, indices, seed):
        self._loader = loader
        self._indices = indices
        self._lock = threading.Condition()
        self._ready = {}
        self._next_in = 0  # number of the next batch to start
        self._next_out = 0  # number of the next batch to hand out
        self._last = None  # number of batches, once known
        self._limit = loader.num_workers * max(1, loader.prefetch_factor)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(i, seed), daemon=True, name=f"tensorgrad-loader-{i}")
            for i in range(loader.num_workers)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, worker, seed):
        loader = self._loader
        _local.info = WorkerInfo(worker, loader.num_workers, seed + worker, loader.dataset)
        failed = None
        if loader.worker_init_fn is not None:
            try:
                loader.worker_init_fn(worker)
            except BaseException as error:
                failed = error
        while True:
            with self._lock:
                while not self._closed and self._last is None and self._next_in - self._next_out >= self._limit:
                    self._lock.wait()
                if self._closed or self._last is not None:
                    return
                try:
                    index = next(self._indices)
                except StopIteration:
                    self._last = self._next_in
                    self._lock.notify_all()
                    return
                except BaseException as error:
                    self._ready[self._next_in] = (False, error)
                    self._next_in += 1
                    self._last = self._next_in
                    self._lock.notify_all()
                    return
                number = self._next_in
                self._next_in += 1
            try:
                if failed is not None:
                    raise failed
                result = (True, loader._fetch(index))
            except BaseException as error:
                result = (False, error)
            with self._lock:
                self._ready[number] = result
                self._lock.notify_all()
            del result

    def take(self):
        timeout = self._loader.timeout or None
        with self._lock:
            while self._next_out not in self._ready:
                if self._closed or (self._last is not None and self._next_out >= self._last):
                    raise StopIteration
                if not self._lock.wait(timeout):
                    raise RuntimeError(f"DataLoader timed out after {timeout} seconds")
            good, value = self._ready.pop(self._next_out)
            self._next_out += 1
            self._lock.notify_all()
        if not good:
            self.close()
            raise value
        return value

    def close(self):
        with self._lock:
            self._closed = True
            self._lock.notify_all()


class _PrefetchIterator:
    """What the loop holds. The threads do not hold it: dropping it half-way ends them."""

    def __init__(self, prefetcher):
        self._prefetcher = prefetcher

    def __iter__(self):
        return self

    def __len__(self):
        return len(self._prefetcher._loader)

    def __next__(self):
        return self._prefetcher.take()

    def __del__(self):
        self._prefetcher.close()
