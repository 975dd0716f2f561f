"""A user's script, checked by mypy in `test_library.py`: every public name has its real type. It is never run."""

from pathlib import Path
from typing import Any, assert_type

from torch import Tensor, nn

import medvq
from medvq.config.resolve import Study
from medvq.library.results import Results, ResultTable
from medvq.library.studies import RunSummary, StudyRuns
from medvq.shards.dataset.dataset import Dataset
from medvq.shards.pack.report import PackReport
from medvq.train.trained import TrainedRun

assert_type(medvq.__version__, str)
assert_type(medvq.pack("data/smear", Path("datasets/smear"), recipe="smear", size=(64, 48), on_bad="skip"), PackReport)
assert_type(medvq.open_dataset("datasets/smear"), Dataset)
with medvq.Loader.open("datasets/smear", split="val", batch_size=8, size=64) as loader:
    assert_type(loader, medvq.Loader)
    for batch in loader.evaluate():
        assert_type(batch.image, Tensor)
assert_type(medvq.create_model("vqvae", input_shape=(3, 64, 64), codebook_size=32), nn.Module)
assert_type(medvq.list_models(), list[str])
assert_type(medvq.list_quantizers(), list[str])
study = medvq.load_study("quickstart", sets={"train.epochs": 2}, smoke=True)
assert_type(study, Study)
runs = medvq.run(study, workers=0, say=print)
assert_type(runs, StudyRuns)
assert_type(runs[0], RunSummary)
assert_type(medvq.results("quickstart"), Results)
assert_type(runs.results().tables["accuracy"], ResultTable)
assert_type(medvq.results("quickstart").to_dicts(), list[dict[str, Any]])
trained = medvq.load(runs[0].folder, checkpoint="last")
assert_type(trained, TrainedRun)
assert_type(trained.metrics, dict[str, float])

unknown = medvq.unknown  # type: ignore[attr-defined]  # mypy must see this mistake, and the two below
medvq.pack("data/smear", "datasets/smear", on_bad="ignore")  # type: ignore[arg-type]
medvq.run("quickstart", "datasets/smear")  # type: ignore[call-arg]  # options are keyword-only
