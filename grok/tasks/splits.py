"""Train and test sets as one dictionary of tensors."""

from grok.tensors import Tensors


def split_rows(columns: Tensors, train_count: int) -> Tensors:
    """train_NAME and test_NAME of every column: its first `train_count` rows, and the others.

    columns: by name, each of N rows in the order to be split in.
    """
    parts = {"train": slice(None, train_count), "test": slice(train_count, None)}
    return {
        f"{part}_{name}": values[rows]
        for part, rows in parts.items()
        for name, values in columns.items()
    }


def train_size(examples: int, fraction: float) -> int:
    """Number of examples in a train set of this fraction, rounded down."""
    return int(examples * fraction + 1e-9)  # 55 * (45 / 55) is less than 45
