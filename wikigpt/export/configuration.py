"""The configuration of a published model: a plain GPT2Config that also answers to the names of this project. An export
holds this file as configuration_gpt2_custom.py; it needs transformers alone."""

from transformers import GPT2Config


class GPT2CustomConfig(GPT2Config):
    """`config.emb_dim` is `config.n_embd`, and so on: `GPTModel(config)` takes it as it is."""

    attribute_map = {  # noqa: RUF012 - as transformers has it
        **GPT2Config.attribute_map,
        "context_length": "n_positions",
        "emb_dim": "n_embd",
        "n_heads": "n_head",
        "n_layers": "n_layer",
        "n_kv_heads": "n_head",
        "drop_rate": "resid_pdrop",
        "tie_embeddings": "tie_word_embeddings",
    }
    arch = "gpt2"
    rope_theta = 0.0  # a GPT-2 turns nothing

    @property
    def qkv_bias(self) -> bool:
        """GPT-2 always has one; where a model was trained without, it is zero."""
        return True

    @property
    def head_dim(self) -> int:
        return int(self.n_embd // self.n_head)

    @property
    def ffn_dim(self) -> int:
        return int(4 * self.n_embd)
