"""Our names for a modern model's weights and transformers' names for them, both ways. All matrices are the same way round.

GPTModel.state_dict()  <──>  Qwen3ForCausalLM.state_dict()
"""

from collections.abc import Mapping

from torch import Tensor

from wikigpt.transformer import Config

TOP = {
    "tok_emb.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "out_head.weight": "lm_head.weight",
}
BLOCK = {
    "norm1": "input_layernorm",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "attn.out_proj": "self_attn.o_proj",
    "norm2": "post_attention_layernorm",
    "ff.gate": "mlp.gate_proj",
    "ff.up": "mlp.up_proj",
    "ff.down": "mlp.down_proj",
}


def to_qwen3(weights: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Our weights under transformers' names; a tied head is there under both. What pads the vocabulary stays behind."""
    theirs = {name: weights[our] for our, name in _names(config).items()}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensor = theirs.get(name, theirs["model.embed_tokens.weight"])
        theirs[name] = tensor[: config.vocab_size].contiguous()
    return theirs


def from_qwen3(theirs: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """transformers' weights under our names. Raises KeyError where one is missing."""
    return {our: theirs[name] for our, name in _names(config).items()}


def _names(config: Config) -> dict[str, str]:
    names = {our: name for our, name in TOP.items() if our != "out_head.weight" or not config.tie_embeddings}
    for layer in range(config.n_layers):
        for our, name in BLOCK.items():
            names[f"blocks.{layer}.{our}.weight"] = f"model.layers.{layer}.{name}.weight"
    return names
