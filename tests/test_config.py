"""Presets, flags and run.json: every setting is named once, and a wrong one is answered with the right one."""

import pytest
import torch

from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings, from_preset, modern
from wikigpt.errors import ConfigError
from wikigpt.transformer import GPTModel


@pytest.mark.parametrize("name", MODEL_CONFIGS)
def test_model_presets_are_dataclasses_already(name):
    assert ModelConfig(**MODEL_CONFIGS[name]).context_length > 0


@pytest.mark.parametrize("name", TRAINING_SETTINGS)
def test_training_presets_are_dataclasses_already(name):
    assert TrainingSettings(**TRAINING_SETTINGS[name]).learning_rate > 0


def test_the_seeds_setting_is_as_the_seed_has_it():
    assert TRAINING_SETTINGS["Foundation better_quality"] == {
        "learning_rate": 2e-4,
        "num_epochs": 50,
        "batch_size": 4,
        "weight_decay": 0.01,
        "warmup_steps": 2000,
        "gradient_accumulation_steps": 8,
        "max_grad_norm": 1.0,
    }


def test_a_change_is_laid_over_the_preset():
    config = from_preset(ModelConfig, MODEL_CONFIGS, "tiny", {"n_layers": 7})
    assert (config.n_layers, config.emb_dim) == (7, MODEL_CONFIGS["tiny"]["emb_dim"])


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("gpt2_orginal", {}, "Did you mean 'gpt2_original'?"),
        ("tiny", {"emb_dims": 3}, "Did you mean 'emb_dim'?"),
        ("tiny", {"n_heads": 3}, "cannot be shared out"),
        ("tiny", {"n_layers": 0}, "above 0"),
        ("tiny", {"drop_rate": 1.0}, "below 1"),
        ("tiny", {"arch": "gpt3"}, "Take one of gpt2, qwen3"),
        ("tiny", {"ffn_dim": 100}, "ffn_dim is 100, and a GPT-2 has 512. Give --ffn_dim 512, or take --arch qwen3."),
        ("tiny", {"tie_embeddings": False}, "take --arch qwen3"),
        ("tiny", {"rope_theta": 5.0}, "take --arch qwen3"),
        ("tiny", {"emb_dim": 2}, "cannot be shared out over n_heads"),
        ("modern_tiny", {"n_heads": 3}, "cannot be shared out over n_heads"),
        ("tiny", {"arch": "qwen3"}, "Take --qkv_bias False."),
        ("modern_tiny", {"n_kv_heads": 3}, "cannot be shared out over n_kv_heads 3"),
        ("modern_tiny", {"n_kv_heads": -1}, "n_kv_heads is -1"),
        ("modern_tiny", {"head_dim": 7}, "even number"),
        ("modern_tiny", {"drop_rate": 0.1}, "Take --drop_rate 0."),
        ("modern_tiny", {"rope_theta": 0.0}, "rope_theta is 0.0"),
    ],
)
def test_a_wrong_setting_says_what_to_do(name, changes, says):
    with pytest.raises(ConfigError) as error:
        from_preset(ModelConfig, MODEL_CONFIGS, name, changes)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": "sgd"}, "Take one of adamw, muon"),
        ({"momentum": 1.0}, "below 1"),
        ({"decay_share": 0.0}, "above 0"),
        ({"matrix_learning_rate": 0.0}, "above 0"),
        ({"tokens_per_parameter": -1.0}, "0 or more"),
    ],
)
def test_a_wrong_training_setting_says_what_to_do(changes, says):
    with pytest.raises(ConfigError) as error:
        from_preset(TrainingSettings, TRAINING_SETTINGS, "small_models", changes)
    assert says in str(error.value)


@pytest.mark.parametrize(("name", "parameters"), [("modern_124m", 124e6), ("modern_350m", 350e6), ("modern_1b", 1e9)])
def test_modern_presets_have_the_size_of_their_name(name, parameters):
    model, training = ModelConfig(**MODEL_CONFIGS[name]), TrainingSettings(**TRAINING_SETTINGS[name])
    with torch.device("meta"):
        made = GPTModel(model)
    padding = (len(made.tok_emb.weight) - model.vocab_size) * model.emb_dim
    assert sum(p.numel() for p in made.parameters()) - padding == model.n_parameters
    assert model.n_parameters == pytest.approx(parameters, rel=0.06)
    assert training.optimizer == "muon" and training.tokens_per_parameter == 20


def test_one_number_makes_a_modern_model_and_how_to_train_it():
    made = [modern(depth, 8192) for depth in (1, 2, 5, 7, 12, 13, 40)]
    models = [ModelConfig(**model) for model, _ in made]
    trainings = [TrainingSettings(**training) for _, training in made]
    assert (MODEL_CONFIGS["modern_124m"], TRAINING_SETTINGS["modern_124m"]) == modern(12)
    assert [m.n_heads // m.n_kv_heads for m in models] == [1, 2, 1, 1, 2, 1, 2]
    for model, training in zip(models, trainings, strict=True):
        assert (model.emb_dim, model.head_dim, model.ffn_dim) == (64 * model.n_layers, 64, 3 * model.emb_dim)
        assert training.warmup_steps > 0 and training.decay_share < 1
    # Larger models: more tokens a step, smaller steps of AdamW.
    tokens = [t.windows_per_step * m.context_length for t, m in zip(trainings, models, strict=True)]
    assert tokens == sorted(tokens) and tokens[4] == 2**18
    rates = [t.learning_rate for t in trainings]
    assert rates == sorted(rates, reverse=True) and rates[4] == 4e-3
    with pytest.raises(ConfigError, match="--depth is 0"):
        modern(0)


def test_what_follows_from_other_fields_follows_again():
    config = ModelConfig(**MODEL_CONFIGS["modern_tiny"])
    assert (config.n_kv_heads, config.head_dim, config.ffn_dim) == (2, 64, 768)
    assert "head_dim" not in config.preset() and config.preset()["n_kv_heads"] == 2
    wider = ModelConfig(**config.preset() | {"emb_dim": 512})
    assert (wider.head_dim, wider.ffn_dim) == (128, 1536)
    assert ModelConfig(**config.preset()) == config
