"""Switches of the libraries underneath, under PyTorch's names.

torch.backends.cuda.matmul.allow_tf32   float32 products in TF32 (ten bits of mantissa): off unless switched on
torch.backends.cudnn.allow_tf32         the same for convolutions: on unless switched off
"""

from . import _C


class _Matmul:
    @property
    def allow_tf32(self):
        return _C._cuda_allow_tf32_matmul()

    @allow_tf32.setter
    def allow_tf32(self, allow):
        _C._cuda_set_allow_tf32_matmul(bool(allow))


class _Cuda:
    matmul = _Matmul()

    @staticmethod
    def is_built():
        """Whether a CUDA device can be used here."""
        return _C._cuda_is_available()


class _Cudnn:
    enabled = True
    benchmark = True  # the algorithms of a shape are measured on its first call
    deterministic = False

    @property
    def allow_tf32(self):
        return _C._cuda_allow_tf32_conv()

    @allow_tf32.setter
    def allow_tf32(self, allow):
        _C._cuda_set_allow_tf32_conv(bool(allow))

    @staticmethod
    def is_available():
        """Whether a CUDA device can be used here."""
        return _C._cuda_is_available()


cuda = _Cuda()
cudnn = _Cudnn()
