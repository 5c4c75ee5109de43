"""What does not match PyTorch, and why: `name as in the report: (how many outcomes at most, reason)`."""

EXCEPTIONS: dict[str, tuple[int, str]] = {}
