"""Exchanges between the CUDA devices of this process by NCCL: torch.cuda.nccl's functions. The tensors of a call lie on
different devices, one each, contiguous, of one dtype and size; gradients are not tracked. NCCL is opened at the first
call: the system's, or the wheel nvidia-nccl-cu13 (`pip install "tensorgrad[cuda]"` brings it).

    a, b = tg.ones(3, device="cuda:0"), tg.ones(3, device="cuda:1")
    tg.cuda.nccl.all_reduce([a, b])     # both are 2, 2, 2
"""

from . import _C

SUM, PROD, MAX, MIN, AVG = range(5)


def version():
    """NCCL's version: (2, 27, 3)."""
    found = _C._nccl_version()
    return found // 10000, found // 100 % 100, found % 100


def is_available(tensors):
    """Whether a collective takes these tensors: on different CUDA devices, contiguous, and NCCL can be opened."""
    devices = set()
    for tensor in tensors:
        if tensor.device.type != "cuda" or not tensor.is_contiguous() or tensor.device.index in devices:
            return False
        devices.add(tensor.device.index)
    try:
        return bool(devices) and version() > (0,)
    except _C.DeviceError:
        return False


def all_reduce(inputs, outputs=None, op=SUM):
    """Each output becomes the sum (SUM, PROD, MAX, MIN, AVG) of all inputs; without outputs the inputs do."""
    _C._nccl_all_reduce(inputs, outputs or (), op)


def reduce(inputs, output=None, root=0, op=SUM):
    """`output`, on the device of inputs[root], becomes the sum of all inputs; without it inputs[root] does."""
    _C._nccl_reduce(inputs, () if output is None else (output,), root, op)


def broadcast(inputs, root=0):
    """All tensors become inputs[root]."""
    _C._nccl_broadcast(inputs, root)


def all_gather(inputs, outputs):
    """Each output, which has len(inputs) times as many elements, becomes all inputs, one behind the other."""
    _C._nccl_all_gather(inputs, outputs)


def reduce_scatter(inputs, outputs, op=SUM):
    """outputs[i], which has 1 / len(inputs) of an input's elements, becomes the i-th part of the sum of all inputs."""
    _C._nccl_reduce_scatter(inputs, outputs, op)
