"""Presets, flags and run.json: every setting is named once, and a wrong one is answered with the right one."""

import pytest

from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings, from_preset
from wikigpt.errors import ConfigError


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
    ],
)
def test_a_wrong_setting_says_what_to_do(name, changes, says):
    with pytest.raises(ConfigError) as error:
        from_preset(ModelConfig, MODEL_CONFIGS, name, changes)
    assert says in str(error.value)
