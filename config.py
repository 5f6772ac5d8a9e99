"""The presets and folders that the scripts of this folder use. Change them here, or add your own:

MODEL_CONFIGS["my_gpt"] = {**MODEL_CONFIGS["tiny"], "n_layers": 3}
"""

from wikigpt.config import DATAFOLDER, MODEL_CONFIGS, MODEL_DIR, TRAINING_SETTINGS

__all__ = ["DATAFOLDER", "MODEL_CONFIGS", "MODEL_DIR", "TRAINING_SETTINGS"]
