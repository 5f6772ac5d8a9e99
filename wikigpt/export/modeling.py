"""The thin class that transformers wants around `GPTModel`. An export holds this file behind copies of
`wikigpt/transformer.py` and `gpt2_names.py`, as modeling_gpt2_custom.py: together they need torch and transformers alone.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)  ──>  GPT2CustomLMHeadModel
"""

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, GPT2LMHeadModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from wikigpt.export.configuration import GPT2CustomConfig
from wikigpt.export.gpt2_names import from_gpt2, to_gpt2
from wikigpt.transformer import GPTModel, KVCache


class GPT2CustomLMHeadModel(PreTrainedModel, GenerationMixin):
    """A GPT-2 whose forward pass is the `GPTModel` of this file. Its weights are those that the stock class loads too."""

    config_class = GPT2CustomConfig
    _supports_sdpa = True

    def __init__(self, config: GPT2CustomConfig) -> None:
        super().__init__(config)
        self.gpt = GPTModel(config)
        self.read: Tensor | None = None  # the ids (B, T) whose keys and values are in the cache, while it generates
        self.cache: KVCache | None = None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.gpt.tok_emb

    @classmethod
    def from_pretrained(cls, path: str, *args: Any, **kwargs: Any) -> "GPT2CustomLMHeadModel":
        """Lets the stock class find and read the weights, and takes them over."""
        stock = GPT2LMHeadModel.from_pretrained(path, *args, **kwargs)
        model = cls(GPT2CustomConfig(**stock.config.to_dict())).to(stock.device, stock.dtype)
        model.gpt.load_state_dict(from_gpt2(stock.state_dict(), model.config))
        model.generation_config = stock.generation_config
        model.generation_config.use_cache = False
        return model.eval()

    def save_pretrained(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Saves what both classes load again: the weights under the stock class's names."""
        stock = GPT2LMHeadModel(self.config).to(self.device, self.dtype)
        stock.load_state_dict(to_gpt2(self.gpt.state_dict(), self.config))
        stock.generation_config = self.generation_config
        stock.save_pretrained(path, *args, **kwargs)
        for name in ("modeling_gpt2_custom.py", "configuration_gpt2_custom.py"):  # what config.json names
            shutil.copy(Path(__file__).with_name(name), Path(path) / name)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        cache: KVCache | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Token ids (B, T) to logits (B, T, V); with labels (the ids themselves; -100 where nothing is asked) also the
        loss in nats. A cache holds what came before the ids."""
        if attention_mask is not None and not attention_mask.bool().all():
            raise ValueError("padding is not known here: give prompts of one length, or load the stock class")
        logits = self.gpt(input_ids, cache)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, is_first_iteration: bool = False, **_: Any
    ) -> dict[str, Any]:
        """What to read for the next token: the last one alone where the cache holds all before it. Beyond the context the
        window jumps by half of it and is read anew, as in WikiGPT's own generator."""
        length, context = input_ids.shape[1], self.config.context_length
        jump = max(1, context // 2)
        window = input_ids[:, -(-max(0, length - context) // jump) * jump :]
        if not is_first_iteration and self.read is not None and torch.equal(self.read, window[:, :-1]):
            unread = window[:, -1:]
        else:
            unread, self.cache = window, KVCache(self.config, len(window), self.device, self.dtype)
        self.read = window
        return {"input_ids": unread, "attention_mask": attention_mask, "cache": self.cache}
