"""What does not match PyTorch, and why: `name as in the report: (how many outcomes at most, reason)`."""

ROUNDING = (
    "float32 with scores of several hundreds, whose rounding alone moves a weight by 1e-5: both libraries are as far "
    "from float64 (tensorgrad's root mean square error is 0.3 to 1.2 times PyTorch's; test_attention_accuracy.py "
    "measures it), in other directions, so that 1 to 10 elements of a sample are 1.0e-5 to 5.3e-5 apart where 1e-5 is "
    "allowed; the float64 samples agree"
)

EXCEPTIONS: dict[str, tuple[int, str]] = {
    "nn.functional.scaled_dot_product_attention": (10, ROUNDING),
    "nn.MultiheadAttention": (8, ROUNDING),
    "nn.functional.gelu": (2, "PyTorch's own result is wrong in an `out` that is not contiguous"),
}
