"""CUDA devices: what torch.cuda says about them. Works on a machine without one: is_available() is False, and what
needs a device raises an error that says what is missing."""

import sys
from types import SimpleNamespace

from . import _C
from . import _nccl as nccl

sys.modules[f"{__name__}.nccl"] = nccl  # for `import tensorgrad.cuda.nccl`

Event = _C._CudaEvent
Stream = _C._CudaStream
CUDAGraph = _C._CudaGraph
OutOfMemoryError = _C.OutOfMemoryError


def _record_event(self, event=None):
    """Marks the work queued so far in an event (a new one unless given) and returns it."""
    event = Event() if event is None else event
    event.record(self)
    return event


def _wait_on(self, stream=None):
    """Later work of the stream (the current one unless given) waits for this event."""
    (current_stream() if stream is None else stream).wait_event(self)


Stream.record_event = _record_event
Event.wait = _wait_on


def ExternalStream(stream_ptr, device=None):  # noqa: N802
    """A stream that another library made (the address of a cudaStream_t), which stays its owner's."""
    return Stream._external(stream_ptr, -1 if device is None else _index(device))


def is_available():
    """Whether a CUDA device can be used."""
    return _C._cuda_is_available()


def unavailable_reason():
    """Why is_available() is False; empty when it is True."""
    return _C._cuda_unavailable_reason()


def device_count():
    """Number of CUDA devices."""
    return _C._cuda_device_count()


def _index(device):
    if device is None:
        return current_device()
    return device if isinstance(device, int) else _C.device(device).index or 0


def current_device():
    """Index of the device in use."""
    return _C._cuda_current_device()


def set_device(device):
    """Makes a device the one in use."""
    _C._cuda_set_device(_index(device))


class device:
    """A context in which "cuda" means this device (an index, "cuda:1" or a device); None changes nothing."""

    def __init__(self, device):
        self.idx = -1 if device is None else _index(device)

    def __enter__(self):
        self._before = current_device() if self.idx >= 0 else -1
        if self.idx >= 0:
            set_device(self.idx)

    def __exit__(self, *args):
        if self._before >= 0:
            set_device(self._before)


class device_of(device):
    """A context in which "cuda" means the device of a tensor; a tensor on the CPU changes nothing."""

    def __init__(self, obj):
        super().__init__(obj.device if obj.device.type == "cuda" else None)


def get_device_properties(device=None):
    """Name, major, minor, total_memory (bytes), multi_processor_count, L2_cache_size (bytes) of a device."""
    return SimpleNamespace(**_C._cuda_properties(_index(device)))


def get_device_name(device=None):
    """The device's name."""
    return get_device_properties(device).name


def get_device_capability(device=None):
    """The compute capability as (major, minor)."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


def synchronize(device=None):
    """Waits for everything queued on the device."""
    _C._cuda_synchronize(-1 if device is None else _index(device))


def manual_seed(seed):
    """Seeds the devices' generators; without a device it does nothing."""
    if is_available():
        _C._cuda_manual_seed(seed)


manual_seed_all = manual_seed


def empty_cache():
    """Gives cached memory that nobody uses back to the driver."""
    if is_available():
        _C._empty_cache(device="cuda")


def memory_stats(device=None):
    """Counters of the caching allocator, in bytes: allocated, reserved and their peaks."""
    return _C.memory_stats(f"cuda:{_index(device)}")


def memory_allocated(device=None):
    """Bytes in use by tensors."""
    return memory_stats(device)["allocated"] if is_available() else 0


def max_memory_allocated(device=None):
    """The most bytes in use at one time."""
    return memory_stats(device)["allocated_peak"] if is_available() else 0


def memory_reserved(device=None):
    """Bytes taken from the device, in use or cached."""
    return memory_stats(device)["reserved"] if is_available() else 0


def max_memory_reserved(device=None):
    """The most bytes taken from the device at one time."""
    return memory_stats(device)["reserved_peak"] if is_available() else 0


def reset_peak_memory_stats(device=None):
    """The peaks start again from what is in use now."""
    if is_available():
        _C._reset_peak_memory_stats(f"cuda:{_index(device)}")


def mem_get_info(device=None):
    """Free and total bytes of the device's memory, of all programs, as the driver counts them."""
    return _C._cuda_memory_info(_index(device))


def is_bf16_supported():
    """Whether the device multiplies bfloat16 (compute capability 8.0 and above)."""
    return is_available() and get_device_capability()[0] >= 8


def is_initialized():
    """Whether the device has been used."""
    return is_available()


def current_stream(device=None):
    """The stream that work on the device goes to now."""
    return Stream._current(-1 if device is None else _index(device))


def default_stream(device=None):
    """The device's default stream."""
    return Stream._default(-1 if device is None else _index(device))


def stream(s):
    """A context in which `s` is the current stream; None changes nothing."""
    return _C._CudaStreamScope(s)


class graph:
    """Records the device work of a block into a CUDAGraph, to be replayed with one call.

    Tensors made inside belong to the graph; a replay writes its results into them. Run the work a few times
    before recording, so that optimizer state exists. Random numbers are new ones at every replay, as if the work ran
    anew, and Adam counts its steps on; a number that the host passes along, such as a learning rate, stays what it was.
    What waits for the device (item(), a copy to the CPU, nonzero) raises RuntimeError with its name.

        g = cuda.CUDAGraph()
        with cuda.graph(g):
            y = model(x)
        x.copy_(new_input)
        g.replay()            # y now holds the result for new_input
    """

    def __init__(self, cuda_graph):
        self.cuda_graph = cuda_graph

    def __enter__(self):
        self.cuda_graph.capture_begin()

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.cuda_graph.capture_end()
            return
        self.cuda_graph.reset()  # the error inside the block is the one that tells


def graphed(step, warmup=3):
    """Captures `step()` (for example forward, loss, backward and optimizer step over fixed tensors) and returns a
    function that replays it and returns what the captured call returned, whose tensors hold the new results.

    The step runs `warmup` times for real first.
    """
    result = None
    for _ in range(warmup):
        result = step()
    synchronize()
    recorded = CUDAGraph()
    with graph(recorded):
        result = step()

    def replay():
        recorded.replay()
        return result

    replay.graph = recorded
    return replay
