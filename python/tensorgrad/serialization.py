"""save and load: tensors, state dicts and nested structures in safetensors files."""

import os

from . import _C


def save(obj, f, pickle_module=None, pickle_protocol=2, _use_new_zipfile_serialization=True):
    """Writes tensors, numbers, strings, and dicts and lists of them to a safetensors file.

    The file appears whole or not at all: a temporary file is synced and renamed.
    """
    if hasattr(f, "write"):
        import pickle

        pickle.dump(obj, f, protocol=pickle_protocol)
        return
    _C._save(obj, os.fspath(f))


def load(f, map_location=None, pickle_module=None, *, weights_only=True, mmap=None):
    """Reads what save() wrote, or any safetensors file."""
    if hasattr(f, "read"):
        import pickle

        return pickle.load(f)
    return _C._load(os.fspath(f), None if map_location is None else _C.device(map_location))
