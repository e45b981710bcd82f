"""A model and a tokenizer small enough for every test that needs real ones."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from loopcoder.hf import IQuestPLTCoderForCausalLM, PLTCoderConfig


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, 256 of them, so that every character beyond ASCII spans several."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def small_config(**fields: object) -> PLTCoderConfig:
    """Two layers of width 32, a window of 5 keys; `fields` change it."""
    values: dict[str, object] = {
        "vocab_size": 256,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "plt_window_size": [4, 0],
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return PLTCoderConfig(**{**values, **fields})


def small_model(**fields: object) -> IQuestPLTCoderForCausalLM:
    """Always the same weights for the same fields; large enough that every part matters."""
    torch.manual_seed(0)
    model = IQuestPLTCoderForCausalLM(small_config(**fields)).eval()
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model
