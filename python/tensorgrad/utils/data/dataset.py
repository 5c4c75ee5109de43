"""What a loader reads from."""

import bisect
import itertools
import math

from ... import _C


class Dataset:
    """Something with ``__getitem__(index)`` and usually ``__len__``."""

    def __getitem__(self, index):
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other):
        return ConcatDataset([self, other])

    def __class_getitem__(cls, item):
        return cls


class IterableDataset(Dataset):
    """Something that is only iterated over."""

    def __iter__(self):
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class TensorDataset(Dataset):
    """Sample i is the tuple of every tensor's row i."""

    def __init__(self, *tensors):
        if any(tensors[0].size(0) != t.size(0) for t in tensors):
            raise AssertionError("Size mismatch between tensors")
        self.tensors = tensors

    def __getitem__(self, index):
        return tuple(t[index] for t in self.tensors)

    def get_batch(self, indices):
        """The samples at `indices`, stacked: one gather per tensor."""
        rows = _C._tensor_from_data(indices, _C.int64)
        return [t.index_select(0, rows) for t in self.tensors]

    def __len__(self):
        return self.tensors[0].size(0)


class StackDataset(Dataset):
    """Sample i is the tuple (or dict) of every dataset's sample i."""

    def __init__(self, *args, **kwargs):
        if bool(args) == bool(kwargs):
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like input/output"
            )
        self.datasets = args or kwargs
        parts = args or tuple(kwargs.values())
        self._length = len(parts[0])
        if any(len(d) != self._length for d in parts):
            raise ValueError("Size mismatch between datasets")

    def __getitem__(self, index):
        if isinstance(self.datasets, dict):
            return {key: d[index] for key, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __len__(self):
        return self._length


class ConcatDataset(Dataset):
    """Datasets behind one another."""

    def __init__(self, datasets):
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self):
        return self.cumulative_sizes[-1]

    def __getitem__(self, index):
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        at = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[at - 1] if at else 0
        return self.datasets[at][index - before]


class Subset(Dataset):
    """The samples of a dataset at the given indices."""

    def __init__(self, dataset, indices):
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index):
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __len__(self):
        return len(self.indices)


class MNIST(Dataset):
    """Images of MNIST's file layout: sample i is ((1, H, W) float32 = (byte / 255 - mean) / std, the class number).

    `root` holds {train,t10k}-{images-idx3,labels-idx1}-ubyte, each with or without .gz.
    """

    _fashion = False

    def __init__(self, root, train=True, transform=None, target_transform=None, download=False, *, mean=0.0, std=1.0):
        import os

        self.data, self.targets, self.classes = _C._read_mnist(os.fspath(root), bool(train), self._fashion)
        self.train, self.transform, self.target_transform = train, transform, target_transform
        self.mean, self.std = mean, std

    def _normalized(self, images):
        x = images.to(_C.float32).div_(255.0)
        return x if self.mean == 0 and self.std == 1 else x.sub(self.mean).div(self.std)

    def __getitem__(self, index):
        image, target = self._normalized(self.data[index].unsqueeze(0)), int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def get_batch(self, indices):
        """The samples at `indices`, stacked: (N, 1, H, W) and (N,)."""
        if self.transform is not None or self.target_transform is not None:
            from .dataloader import default_collate

            return default_collate([self[i] for i in indices])
        rows = _C._tensor_from_data(indices, _C.int64)
        with _C.no_grad_guard():
            return [self._normalized(self.data.index_select(0, rows).unsqueeze(1)), self.targets.index_select(0, rows)]

    def __len__(self):
        return len(self.data)


class FashionMNIST(MNIST):
    """Ten kinds of clothes in MNIST's layout; Debian's package dataset-fashion-mnist puts it where `root` points by "
    "default."""

    _fashion = True

    def __init__(
        self,
        root="/usr/share/datasets/fashion-mnist",
        train=True,
        transform=None,
        target_transform=None,
        download=False,
        *,
        mean=0.0,
        std=1.0,
    ):
        super().__init__(root, train, transform, target_transform, download, mean=mean, std=std)


def random_split(dataset, lengths, generator=None):
    """Splits a dataset into random, disjoint subsets of the given lengths or fractions that sum to 1."""
    total = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1 + 1e-9 and all(0 <= x <= 1 for x in lengths):
        fractions, lengths = lengths, [int(math.floor(total * f)) for f in lengths]
        for i in range(total - sum(lengths)):
            lengths[i % len(fractions)] += 1
    if sum(lengths) != total:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = _C.randperm(total, generator=generator).tolist()
    ends = list(itertools.accumulate(lengths))
    return [Subset(dataset, order[end - n : end]) for end, n in zip(ends, lengths)]
