"""From a recipe to token shards: `recipe` says what, `build` does it, `shards` reads the result."""
