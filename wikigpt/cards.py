"""NVIDIA cards by their datasheets: how fast they multiply matrices in 16 bits, how much they hold.

TFLOP/s are dense, added up in 32 bits: half of what is printed for "sparse" ones, and of GeForce cards half of what is
printed for sums in 16 bits. From NVIDIA's datasheets as nanochat (nanochat/common.py), torchtitan (tools/utils.py) and
Lightning (fabric/utilities/throughput.py) have them; of the RTX 3060, 4060 and 4060 Ti calculated from cores and clock.
"""

import difflib
import re
from dataclasses import dataclass

from wikigpt.errors import ConfigError


@dataclass(frozen=True)
class Card:
    name: str  # as part of what PyTorch calls it
    flops: float  # per second
    memory: int  # bytes

    @property
    def key(self) -> str:
        return _key(self.name)


def _card(name: str, teraflops: float, gigabytes: int) -> Card:
    return Card(name, teraflops * 1e12, int(gigabytes * 2**30 * 0.98))  # the driver keeps some


CARDS = [
    _card("T4", 65, 15), _card("V100", 125, 16), _card("A10", 125, 23), _card("A10G", 70, 23), _card("L4", 121, 23),
    _card("L40S", 362, 45), _card("A100", 312, 80), _card("A100 40GB", 312, 40), _card("H100", 989, 80),
    _card("H100 PCIe", 756, 80), _card("H200", 989, 141), _card("B200", 2250, 180), _card("RTX 3060", 25.5, 12),
    _card("RTX 3090", 71, 24), _card("RTX 4060", 30.2, 8), _card("RTX 4060 Ti", 44.1, 16), _card("RTX 4090", 165, 24),
    _card("RTX 5090", 209.5, 32), _card("RTX A6000", 155, 48),
]  # fmt: skip


def card_called(name: str) -> Card | None:
    """The card that PyTorch calls so; the longest name that fits counts."""
    fits = [card for card in CARDS if re.search(rf"\b{card.name}\b", name)]
    return max(fits, key=lambda card: len(card.name), default=None)


def find_card(name: str) -> Card:
    """The card that a user means: "h100", "RTX 4060", "rtx4060". Raises ConfigError where it is not known."""
    by_key = {card.key: card for card in CARDS}
    if _key(name) not in by_key:
        near = difflib.get_close_matches(_key(name), by_key, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"There is no card {name!r} here.", f"{meant}Known: {', '.join(sorted(by_key))}.")
    return by_key[_key(name)]


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
