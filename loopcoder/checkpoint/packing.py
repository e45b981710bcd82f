"""Integers of 4 or 8 bits to and from the int32 words of the compressed-tensors layout.

A word holds its values lowest bits first, each as an unsigned number, 2^(bits - 1) above its own.
On a little-endian machine these are simply the values' bytes in order.
"""

import sys

import torch
from torch import Tensor
from torch.nn.functional import pad

from loopcoder.kernels.grouped import GroupedWeight

_WORD_BYTES = 4
_SIGN = 0x80  # an int8 with this bit turned is the unsigned number 128 above it

assert sys.byteorder == "little", "files would have to be turned round"


def pack(weight: GroupedWeight) -> Tensor:
    """The values of [out, in] as int32 [out, words]; a row's last word is filled up with zeros."""
    bytes_NB = weight.values if weight.bits == 4 else weight.values.view(torch.uint8) ^ _SIGN
    short = -bytes_NB.shape[1] % _WORD_BYTES
    return pad(bytes_NB, (0, short)).contiguous().view(torch.int32)


def unpack(packed_NP: Tensor, scale_NG: Tensor, inputs: int, bits: int) -> GroupedWeight:
    """The weight [out, inputs] whose values were packed with `bits` bits each."""
    bytes_NB = packed_NP.contiguous().view(torch.uint8)[:, : inputs * bits // 8].contiguous()
    values = bytes_NB if bits == 4 else (bytes_NB ^ _SIGN).view(torch.int8)
    group = inputs // scale_NG.shape[1]
    return GroupedWeight(bits=bits, group=group, values=values, scale=scale_NG)
