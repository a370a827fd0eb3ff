"""Train small networks reproducibly: data, networks, seeding, one loop, ensembles of seeds.

>>> import torch
>>> data = load("digits", seed=0)
>>> networks = Ensemble([perceptron((64, 32, 10)) for _ in range(3)])
>>> history = train(networks, data, optimizer=torch.optim.Adam, n_epochs=20,
...                 batch_size=64, seed=range(3))
>>> bool((history.last("test_accuracy") > 0.85).all())
True
"""

from repro.learn.data import Dataset, load, random_crop_flip, stacked
from repro.learn.ensembles import Ensemble
from repro.learn.networks import (
    fold,
    kaiming_normal_,
    lenet5,
    lenet_300_100,
    perceptron,
    resnet20,
    vgg16_bias_free,
)
from repro.learn.seeding import Streams, initialization, reproducible, streams
from repro.learn.sources import CorruptDataError, DataNotFoundError
from repro.learn.training import (
    EpochReport,
    History,
    TrainingDivergedError,
    cross_entropy,
    evaluate,
    resolve_device,
    train,
)

__all__ = [
    "CorruptDataError",
    "DataNotFoundError",
    "Dataset",
    "Ensemble",
    "EpochReport",
    "History",
    "Streams",
    "TrainingDivergedError",
    "cross_entropy",
    "evaluate",
    "fold",
    "initialization",
    "kaiming_normal_",
    "lenet5",
    "lenet_300_100",
    "load",
    "perceptron",
    "random_crop_flip",
    "reproducible",
    "resnet20",
    "resolve_device",
    "stacked",
    "streams",
    "train",
    "vgg16_bias_free",
]
