"""Images per second from JPEG files: folder data against a plain loader that decodes in every epoch.

Writes --count JPEG files of 224 pixels, then measures, with equal numbers of worker processes:

- plain: a DataLoader of torch over the files; PIL decodes them in the workers, in every epoch;
- folder: `--data folder:DIR:size=224`; its first epoch includes the decoding of all files into an array on disk, later
  ones read the array, ahead of the training.

The time is the clock's, because worker processes share it. memory_mb: resident memory of the process after an epoch,
without pages of files and without its workers; it must not grow with the number of images. Rows go to rows/loading.csv.

    python benchmarks/loading.py --count 10000 --workers 1
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from resumable import Rows
from torch.utils.data import DataLoader, Dataset

SIDE, CLASSES, BATCH = 224, 10, 64
COLUMNS = ("count", "workers", "way", "epoch", "images", "seconds", "images_per_second", "memory_mb")


class Plain(Dataset):
    """The files, decoded when they are read, as in an ImageFolder."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[place]) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(255)
        return pixels, int(self.files[place].parent.name)


def write_files(folder: Path, count: int) -> None:
    """JPEG files with smooth colours and some noise, of about 20 KiB each."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        noisy = np.asarray(image, dtype=np.int16) + rng.integers(-12, 13, (SIDE, SIDE, 3))
        target = folder / str(number % CLASSES) / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target, quality=85)


def consume(batches: Iterator[Any]) -> int:
    """Read all batches; returns the number of images. The sum makes sure that the pixels have been read."""
    count, total = 0, 0.0
    for x, _ in batches:
        count += len(x)
        total += float(x[:, 0, 0, 0].sum())
    return count


def measured(folder: str, way: str, workers: int, epochs: int) -> list[dict[str, Any]]:
    """Epochs of a way in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, folder, way, workers, epochs).result()


def _measured(folder: str, way: str, workers: int, epochs: int) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    os.environ["XDG_CACHE_HOME"] = str(Path(folder).with_name(way))  # each way decodes the files itself
    rows = []
    loader: Any = None
    for epoch in range(1, epochs + 1):
        started = time.monotonic()
        if way == "plain":
            loader = loader or DataLoader(Plain(Path(folder)), BATCH, shuffle=True, num_workers=workers)
            images = consume(iter(loader))
        else:
            from evaluators.data import load_data
            from evaluators.data.source import ImageSource

            loader = loader or ImageSource(load_data(f"folder:{folder}:size={SIDE}"), augment="none")
            rows_of_epoch = np.concatenate([loader.training_rows, loader.validation_rows])
            batches = loader.training(rows_of_epoch, BATCH, share=0.0)
            images = consume(batches.train(torch.Generator().manual_seed(epoch)))
            images += epoch == 1 and len(loader.dataset.x_test)  # these were decoded as well
        seconds = time.monotonic() - started
        rows.append({"epoch": epoch, "images": images, "seconds": round(seconds, 2)})
        rows[-1] |= {"images_per_second": round(images / seconds), "memory_mb": _own_mb()}
    return rows


def _own_mb() -> int:
    """Resident memory of this process without the pages of files, which the system may take back."""
    memory = psutil.Process().memory_info()
    return round((memory.rss - memory.shared) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "loading.csv"))
    arguments = parser.parse_args()
    rows = Rows(arguments.csv, COLUMNS)
    with tempfile.TemporaryDirectory() as place:
        write_files(Path(place, "files"), arguments.count)
        for way in ("plain", "folder"):
            run = {"count": arguments.count, "workers": arguments.workers, "way": way}
            if not len(rows.of(run)):
                rows.append(run | row for row in measured(f"{place}/files", way, arguments.workers, arguments.epochs))
    table = rows.of({"count": arguments.count, "workers": arguments.workers})
    print(table.drop(columns=["count", "workers"]).to_string(index=False))
    plain = table[(table["way"] == "plain") & (table["epoch"] > 1)]["images_per_second"].mean()
    own = table[table["way"] == "folder"]
    first, later = (own[chosen]["images_per_second"].mean() / plain for chosen in (own["epoch"] == 1, own["epoch"] > 1))
    print(f"folder / plain: first epoch {first:.2f}, later {later:.2f}")


if __name__ == "__main__":
    main()
