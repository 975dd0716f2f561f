"""medvq: from folders of medical images to the paper's table.

The library at a glance:

    pack             pack a folder of images into a dataset of WebDataset shards
    open_dataset     open a packed dataset
    Loader           read a dataset in batches, in an order that outlives restarts
    create_model     make a model by name
    list_models      names of the models; `list_quantizers` those of the quantizers
    load_study       read and check a study
    run              do a study on this machine
    results          the tables of a study
    load             a trained run: its model, settings and metrics

Importing medvq imports none of its dependencies: each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = [
    "Loader",
    "__version__",
    "create_model",
    "list_models",
    "list_quantizers",
    "load",
    "load_study",
    "open_dataset",
    "pack",
    "results",
    "run",
]

if TYPE_CHECKING:
    from medvq.library.data import open_dataset, pack
    from medvq.library.models import create_model, list_models, list_quantizers
    from medvq.library.results import results
    from medvq.library.studies import load_study, run
    from medvq.library.trained import load
    from medvq.shards.load.loader import Loader
else:
    _HOME = {
        "Loader": "medvq.shards.load.loader",
        "create_model": "medvq.library.models",
        "list_models": "medvq.library.models",
        "list_quantizers": "medvq.library.models",
        "load": "medvq.library.trained",
        "load_study": "medvq.library.studies",
        "open_dataset": "medvq.library.data",
        "pack": "medvq.library.data",
        "results": "medvq.library.results",
        "run": "medvq.library.studies",
    }

    # The function `results` has the name of a package. Python binds a package's name when it first imports it; so
    # that a later import of one of its modules does not replace the function, the package is imported here.
    _import_module("medvq.results")
    del results

    def __getattr__(name):
        """Import a public name when it is first used."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_HOME[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
