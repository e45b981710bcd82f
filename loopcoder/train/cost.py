"""What a training run will cost, before it runs."""

from typing import NamedTuple

from loopcoder.model.config import ModelConfig
from loopcoder.model.cost import Flops, forward_flops, training_flops
from loopcoder.train.recipe import TrainRecipe


class TrainingCost(NamedTuple):
    """Tokens that are read, and the FLOPs of the products made of them (`loopcoder.model.cost`)."""

    tokens: int
    flops: float


def training_cost(recipe: TrainRecipe, shape: ModelConfig) -> TrainingCost:
    """Of all steps of `recipe`, for a model of `shape`; held-out scoring is not counted.

    Each window counts as one document: where it holds several, attention costs less. Of sampled
    loop counts, each as likely, the mean counts.
    """
    windows = recipe.steps * recipe.batch_windows
    sample = recipe.loops.sample or (shape.plt_num_loops,)
    flops = sum(_window_flops(recipe, shape, loops).total for loops in sample) / len(sample)
    return TrainingCost(windows * recipe.data.sequence_length, windows * flops)


def _window_flops(recipe: TrainRecipe, shape: ModelConfig, loops: int) -> Flops:
    length = recipe.data.sequence_length
    flops = training_flops(shape, length, loops, checkpointing=recipe.run.gradient_checkpointing)
    if recipe.loops.loss == "last":
        return flops
    # Each earlier loop's logits are computed twice forward (`head_losses`) and once backward.
    head = forward_flops(shape, length, loops).head
    return flops + Flops(linear=0, attention=0, head=4 * head * (loops - 1))
