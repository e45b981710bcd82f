"""One torch thread for the whole suite: idle OpenMP threads that spin slow a busy machine down."""

import torch

torch.set_num_threads(1)
