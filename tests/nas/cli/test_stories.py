"""The commands of the how-to pages, run as they are shown, on small data and with small limits."""

from __future__ import annotations

import shlex
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import results

from ...pages import ROOT

FEW = ("--train", "2", "--generation", "2", "--workers", "1")
SMALL = shlex.split("--pool 8 --epochs 2 --final-epochs 3 --finalists 1 --threads 1 --device cpu")
ELSEWHERE = ("postgresql:", "s3:", "--ray-address", "hf:", "torchvision:", "nasbench201", "parquet:pets --")
"""Parts of commands that need a server, a network, or a table that the reader makes."""
KEY = "3f2a"
"""In place of the key of a candidate."""
FIRST = {
    "latency.md": ("nas search fashion --data npz:fashion_mnist.npz --space slimmable",),
    "own-proxy.md": ("nas search digits --space slimmable",),
    "own-evaluator.md": ("nas search digits --evaluator examples/own_evaluator.py:Robust --space slimmable",),
    "querying.md": ("nas search digits --space slimmable", "nas search tour --space slimmable --seed 1"),
}
"""What the reader of a page has done before."""


def shown(page: Path) -> list[str]:
    """The commands of a page in their order, without those that run elsewhere."""
    lines = page.read_text(encoding="utf-8").splitlines()
    commands = [line.partition("  #")[0].strip() for line in lines if line.startswith("nas ")]
    return [line for line in commands if not any(part in line for part in ELSEWHERE)]


PAGES = {page.name: shown(page) for page in sorted((ROOT / "docs" / "how-to").glob("*.md"))}


@pytest.fixture
def reader(cli, tmp_path):
    """Runs commands in a folder with the data of the pages."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    rows = tmp_path / "benchmarks" / "rows"
    rows.mkdir(parents=True)
    shutil.copyfile(ROOT / "benchmarks" / "rows" / "digits_cells.csv", rows / "digits_cells.csv")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = (rng.integers(0, 60, (120, 8, 8)) + 80 * labels[:, None, None]).astype(np.uint8)
    for name in ("fashion_mnist", "fashion", "defects"):
        np.savez(tmp_path / f"{name}.npz", x_train=images, y_train=labels, x_test=images[:30], y_test=labels[:30])
    encoded = [_jpeg(image) for image in images]
    for number, (content, label) in enumerate(zip(encoded, labels, strict=True)):
        folder = tmp_path / "pets" / ("train" if number % 4 else "test") / f"kind{label}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(content)
    kinds = [f"kind{label}" for label in labels]
    pd.DataFrame({"photo": encoded, "breed": kinds}).to_parquet(tmp_path / "pets.parquet")
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "pets-0.tar", "w") as shard:
        for number, (content, label) in enumerate(zip(encoded, labels, strict=True)):
            for ending, data in (("jpg", content), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:04d}.{ending}")
                member.size = len(data)
                shard.addfile(member, BytesIO(data))

    studies: set[str] = set()

    def run(line):
        words = shlex.split(line)[1:]
        if words[0] == "search":
            if words[1].startswith("--"):
                words.insert(1, "unnamed")
            if words[1] in studies:
                words[1] += str(len(studies))
            studies.add(words[1])
            if "--hours" in words:
                del words[words.index("--hours") : words.index("--hours") + 2]
            if "--space" not in words:
                words += ["--space", "slicing" if "causal" in line else "slimmable"]
            words += [*FEW, *([] if "tabular:" in line else SMALL)]  # trainings of a table are free
        if words[0] == "train":
            words[words.index("--epochs") + 1] = "1"
        if KEY in words:
            study = words[words.index("--study") + 1]
            words[words.index(KEY)] = results.open("nas.db").best(study).key
        status, out, err = cli(*words)
        assert status == 0, f"{line}\n{out}\n{err}"
        assert out.strip()

    return run


def _jpeg(image: np.ndarray) -> bytes:
    written = BytesIO()
    Image.fromarray(image.repeat(6, 0).repeat(6, 1)).save(written, "JPEG")
    return written.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, commands in PAGES.items() if commands])
def test_the_commands_of_a_page_run_one_after_the_other(reader, page):
    for line in (*FIRST.get(page, ()), *PAGES[page]):
        reader(line)


def test_most_pages_have_commands():
    assert sum(map(bool, PAGES.values())) >= 10
