"""What does not match PyTorch, and why: `name as in the report: (how many outcomes at most, reason)`."""

COMPLEX = "the input is complex, which tensorgrad has not: another error class"
OVERLAP = "an `out` that overlaps itself or an input is not noticed"
ROUNDING = (
    "float32 gradients of saturated softmaxes differ from PyTorch's in the last bits (1.2e-5 where 1e-5 is allowed, "
    "3e-6 relative where 1.3e-6 is); the float64 samples agree"
)
LOGICAL = "PyTorch's logical operations refuse a Python number as the second operand; tensorgrad takes it"
TENSOR_ARGUMENT = "a tensor that is not a whole number is refused with TypeError instead of RuntimeError"

EXCEPTIONS: dict[str, tuple[int, str]] = {
    "arange": (1, "of two mistakes in one call, PyTorch names the step and tensorgrad the dtype of `out`"),
    "linspace": (1, TENSOR_ARGUMENT),
    "linspace tensor_overload": (1, TENSOR_ARGUMENT),
    "narrow": (2, TENSOR_ARGUMENT),
    "masked_fill": (2, COMPLEX),
    "nn.functional.conv2d": (1, COMPLEX),
    "masked_select": (2, OVERLAP),
    "gather": (2, f"{OVERLAP}; an `out` of another dtype is converted to"),
    "cat": (3, OVERLAP),
    "logical_and": (1, LOGICAL),
    "logical_or": (1, LOGICAL),
    "logical_xor": (1, LOGICAL),
    "nn.functional.scaled_dot_product_attention": (10, ROUNDING),
    "nn.MultiheadAttention": (8, ROUNDING),
    "nn.functional.batch_norm": (4, "PyTorch takes an empty input of one dimension; tensorgrad asks for (N, C, ...)"),
}
