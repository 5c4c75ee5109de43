"""CUDA devices: what torch.cuda says about them."""

from . import _C


def is_available():
    """Whether a CUDA device can be used."""
    return device_count() > 0


def device_count():
    """Number of CUDA devices."""
    count = getattr(_C, "_cuda_device_count", None)
    return 0 if count is None else count()


def _require():
    if not is_available():
        _C.empty(0, device="cuda")  # raises, and says what is missing


def current_device():
    """Index of the device in use."""
    _require()
    return 0


def get_device_name(device=None):
    """The device's name."""
    _require()
    return _C._cuda_device_name(0 if device is None else _C.device(device).index or 0)


def synchronize(device=None):
    """Waits for everything queued on the device."""
    _require()
    _C._cuda_synchronize()


def manual_seed(seed):
    """Seeds the device's generator; without a device it does nothing."""
    if is_available():
        _C.manual_seed(seed)


manual_seed_all = manual_seed


def empty_cache():
    """Gives cached memory that nobody uses back to the driver."""
    if is_available():
        _C._empty_cache(device="cuda")


def memory_allocated(device=None):
    """Bytes in use by tensors."""
    return _C.memory_stats("cuda")["allocated"] if is_available() else 0


def max_memory_allocated(device=None):
    """The most bytes in use at one time."""
    return _C.memory_stats("cuda")["allocated_peak"] if is_available() else 0


def is_initialized():
    """Whether the device has been used."""
    return is_available()
