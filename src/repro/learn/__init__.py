"""Train small networks reproducibly: data, networks, seeding, one loop, ensembles of seeds.

>>> import torch
>>> from functools import partial
>>> dataset = load("digits", seed=0)
>>> members = []
>>> for seed in range(3):
...     with initialization(seed):
...         members.append(perceptron((64, 32, 10)))
>>> ensemble = Ensemble(members)
>>> history = train(ensemble, dataset, optimizer=partial(torch.optim.Adam, lr=1e-3), n_epochs=5,
...                 batch_size=64, seed=range(3))
"""

from repro.learn.data import CorruptDataError, DataNotFoundError, Dataset, load
from repro.learn.ensembles import Ensemble
from repro.learn.evaluation import accuracy, evaluate
from repro.learn.history import EpochReport, History, TrainingDivergedError
from repro.learn.networks import (
    lenet5,
    lenet_300_100,
    perceptron,
    resnet18,
    resnet20,
    small_cnn,
    vgg16_bias_free,
)
from repro.learn.recording import Record, Recording
from repro.learn.seeding import Streams, initialization, reproducible, streams
from repro.learn.training import train

__all__ = [
    "CorruptDataError",
    "DataNotFoundError",
    "Dataset",
    "Ensemble",
    "EpochReport",
    "History",
    "Record",
    "Recording",
    "Streams",
    "TrainingDivergedError",
    "accuracy",
    "evaluate",
    "initialization",
    "lenet5",
    "lenet_300_100",
    "load",
    "perceptron",
    "reproducible",
    "resnet18",
    "resnet20",
    "small_cnn",
    "streams",
    "train",
    "vgg16_bias_free",
]
