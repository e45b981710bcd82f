"""Where a model's code runs: bubblewrap with limits, or, if it was typed, no sandbox at all."""
