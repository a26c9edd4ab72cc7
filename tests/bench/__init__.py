"""What is fast and what it costs, beside the same work done by others: `python -m tests.bench [NAMES] [--quick]`."""
