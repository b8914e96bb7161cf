"""One visible training loop, and what belongs to it; import every name from here.

The loop knows no model: it asks a function for a summed loss. Device and processes come from
accelerate, which is imported when a run starts.
"""

from lookback.training.checkpoints import load_weights, read_checkpoint, write_checkpoint
from lookback.training.loop import History, train
from lookback.training.losses import token_loss
from lookback.training.schedules import cosine, inverse_square_root, one_cycle
from lookback.training.seeds import mean_and_deviation, over_seeds

__all__ = [
    "History",
    "cosine",
    "inverse_square_root",
    "load_weights",
    "mean_and_deviation",
    "one_cycle",
    "over_seeds",
    "read_checkpoint",
    "token_loss",
    "train",
    "write_checkpoint",
]
