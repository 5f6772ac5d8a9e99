"""The thin class that transformers wants around `GPTModel`. An export holds this file behind copies of
`wikigpt/transformer.py` and `gpt2_names.py`, as modeling_gpt2_custom.py: together they need torch and transformers alone.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)  ──>  GPT2CustomLMHeadModel
"""

from types import SimpleNamespace
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationMixin, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from wikigpt.export.gpt2_names import from_gpt2
from wikigpt.transformer import GPTModel


class GPT2CustomLMHeadModel(PreTrainedModel, GenerationMixin):
    """A GPT-2 whose forward pass is the `GPTModel` of this file. Its weights are those that the stock class loads too."""

    config_class = GPT2Config
    _supports_sdpa = True

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        shape = SimpleNamespace(
            vocab_size=config.vocab_size,
            context_length=config.n_positions,
            emb_dim=config.n_embd,
            n_heads=config.n_head,
            n_layers=config.n_layer,
            drop_rate=config.resid_pdrop,
            qkv_bias=True,
        )
        self.gpt = GPTModel(shape)
        self.post_init()

    @classmethod
    def from_pretrained(cls, path: str, *args: Any, **kwargs: Any) -> "GPT2CustomLMHeadModel":
        """Lets the stock class find and read the weights, and takes them over."""
        stock = GPT2LMHeadModel.from_pretrained(path, *args, **kwargs)
        model = cls(stock.config).to(stock.device, stock.dtype)
        model.gpt.load_state_dict(from_gpt2(stock.state_dict(), model.gpt.config))
        model.generation_config = stock.generation_config
        model.generation_config.use_cache = False
        return model.eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """Token ids (B, T) to logits (B, T, V); with labels (the ids themselves; -100 where nothing is asked) also the
        loss in nats."""
        if attention_mask is not None and not attention_mask.bool().all():
            raise ValueError("padding is not known here: give prompts of one length, or load the stock class")
        logits = self.gpt(input_ids)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> dict[str, Tensor | None]:
        """Reads everything anew for each token: simple, and slow for long texts, where the stock class has a cache."""
        return {"input_ids": input_ids[:, -self.config.n_positions :], "attention_mask": attention_mask}
