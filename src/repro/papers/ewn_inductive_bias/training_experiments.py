"""All experiments of the chapter that train by gradient descent, in one place."""

from repro.papers.ewn_inductive_bias.image_experiments import (
    ImageTables,
    image_pruning,
    learning_rate_control,
)
from repro.papers.ewn_inductive_bias.image_settings import SETTINGS, ImageSetting
from repro.papers.ewn_inductive_bias.pruning import best_of_scores
from repro.papers.ewn_inductive_bias.synthetic_descent import (
    lin_sep_descent,
    lin_sep_relations,
    simple_trajectory_descent,
)
from repro.papers.ewn_inductive_bias.xor import xor_sparsity

__all__ = [
    "SETTINGS",
    "ImageSetting",
    "ImageTables",
    "best_of_scores",
    "image_pruning",
    "learning_rate_control",
    "lin_sep_descent",
    "lin_sep_relations",
    "simple_trajectory_descent",
    "xor_sparsity",
]
