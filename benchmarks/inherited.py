"""Do inherited weights pay? Children that differ from a trained parent in a few choices, with its weights or new ones.

The parents are references of several spaces after the partial training of a search, nine epochs over 10,000 images
each with warm restarts. Children are mutations of their choices. `inherited`: operations of parent and child are
aligned in order, by kind, window and norms; a child copies the weights of the channels that both have. New channels
are not read at first, and a new learned operation beside a shortcut adds zero, so that growing widths and depths keep
the function. `new`: the child's own initial weights. `parent`: the parent itself goes on, for comparison.

Appends a row per operating point to rows/inherited.csv and skips the trainings in that file. Prints the mean anytime
accuracy on validation images over the last decade of MACs after each number of epochs, and the difference to new
weights, paired by child.

    python benchmarks/inherited.py --data npz:fashion_mnist.npz [--children 6] [--epochs 1 3]
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from resumable import Rows, in_points, name_of, scored

import nas
from evaluators.training.evaluator import Training
from evaluators.training.measurement import measure_points
from nas.errors import InvalidArchitecture
from nas.evaluation.jobs import Job, Stage
from nas.execution.layers import Layer
from nas.execution.network import AnytimeNetwork
from nas.plugins import load_plugin
from nas.representation.architecture import Architecture
from nas.representation.elements import Operation, Task
from nas.representation.kinds import kind
from nas.seeds import seed as derived_seed
from nas.spaces.choices import Domains, Recorder, mutate, replay
from nas.spaces.contract import SearchSpace
from nas.spaces.references import BuiltReference, built_references

SPACES = ("slicing", "slimmable", "residual")
PARENT_EPOCHS = (1, 3, 9)
WAYS = ("new", "inherited", "parent")
COLUMNS = ("data", "max_macs", "images", "network", "child", "way", "epochs", "level", "macs", "accuracy", "copied")


@dataclass(frozen=True, kw_only=True)
class Child:
    """A mutation of a parent. changed: the choices that differ, in words."""

    architecture: Architecture
    changed: str


def children_of(space: SearchSpace, parent: BuiltReference, task: Task, max_macs: float) -> Iterator[Child]:
    """Different networks within the MACs, with choices of the space that differ a little from the parent's."""
    rng = np.random.default_rng(derived_seed("inherited", parent.reference.name))
    domains = Domains()
    known = {parent.architecture.network_key}
    space.architecture(Recorder(replay(parent.reference.choices), domains), task)  # the options of all names
    for _ in range(10_000):
        recorder = Recorder(mutate(parent.reference.choices, rng, domains, rate=0.0), domains)
        try:
            architecture = space.architecture(recorder, task)
        except InvalidArchitecture:
            continue
        if architecture.costs[-1] <= max_macs and architecture.network_key not in known:
            known.add(architecture.network_key)
            before, after = parent.reference.choices, recorder.choices
            changed = "; ".join(
                f"{name}: {before.get(name)} → {v}" for name, v in after.items() if before.get(name) != v
            )
            yield Child(architecture=architecture, changed=changed)


def inherit(child: AnytimeNetwork, parent: AnytimeNetwork) -> float:
    """Copy weights of the parent to a child. Returns the share of the child's weights that were copied."""
    pairs = aligned(parent.architecture.topology.operations, child.architecture.topology.operations)
    matched = {after: before for before, after in pairs}
    copied = 0
    operations = child.architecture.topology.operations
    kept = {o.target for index, o in enumerate(operations) if index in matched or not kind(o.kind).learned}
    with torch.no_grad():
        for index, layer in enumerate(child.operation_layers):
            if index in matched:
                copied += _copy(layer, parent.operation_layers[matched[index]])
            elif layer.operation.target in kept:
                _silence(layer)
    return copied / sum(parameter.numel() for parameter in child.parameters())


def aligned(before: tuple[Operation, ...], after: tuple[Operation, ...]) -> list[tuple[int, int]]:
    """Pairs of indices of operations that do the same, in order."""
    matcher = SequenceMatcher(None, [_signature(o) for o in before], [_signature(o) for o in after], autojunk=False)
    return [(b.a + i, b.b + i) for b in matcher.get_matching_blocks() for i in range(b.size)]


def _signature(operation: Operation) -> tuple[Any, ...]:
    o = operation
    return o.kind, o.kernel, o.stride, o.before, o.after, o.wiring, o.bias, o.groups > 1


def _copy(layer: Layer, source: Layer) -> int:
    """Copy the tensors of a layer where both have channels. New source channels are not read by inherited rows."""
    count = 0
    sources, parameters = dict(source.state_dict()), dict(layer.named_parameters())
    for name, tensor in layer.state_dict().items():
        if name == "mask" or name not in sources or sources[name].dim() != tensor.dim():
            continue
        shared = tuple(slice(0, min(a, b)) for a, b in zip(tensor.shape, sources[name].shape))
        if name == "weight":
            tensor[shared[0]] = 0.0
        tensor[shared] = sources[name][shared]
        if name in parameters:
            count += int(np.prod([part.stop for part in shared]))
    if layer.mask is not None and layer.weight is not None:
        layer.weight.mul_(layer.mask)
    return count


def _silence(layer: Layer) -> None:
    """Let a new operation add zero at first."""
    last = layer.after.weight if layer.after is not None else layer.weight
    if last is not None:
        last.zero_()


def stages(epochs: tuple[int, ...], images: int) -> list[list[Any]]:
    """Warm restarts after these numbers of epochs."""
    return [list(Stage(end, images)) for end in epochs]


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=10_000, help="of an epoch")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3], help="of a child, before each measurement")
    parser.add_argument("--children", type=int, default=6)
    parser.add_argument("--max-macs", type=float, default=2e6)
    parser.add_argument("--folder", default="runs/inherited", help="trained networks")
    parser.add_argument("--csv", default=str(Path(__file__).parent / "rows" / "inherited.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    trainer, rows = Training(options.data), Rows(options.csv, COLUMNS)
    images = min(options.images, len(trainer.source.training_rows))
    task, schedule = trainer.dataset.task, stages(tuple(options.epochs), images)
    for name in SPACES:
        space = load_plugin("nas.search_spaces", name)()
        built = built_references(space, task, options.max_macs / 2)  # children may be larger
        if not built:
            continue
        parent = [one for one in built if one.reference.design == built[0].reference.design][-1]
        data = name_of(options.data)
        folder = str(Path(options.folder, data, f"{images} {options.max_macs:g}", name).resolve())  # of one parent
        children = children_of(space, parent, task, options.max_macs)
        for number, child in zip(range(options.children), children):
            place = {"data": data, "max_macs": options.max_macs, "images": images}
            place |= {"network": parent.reference.name, "child": f"{number}: {child.changed}"}
            for way in WAYS:
                key = place | ({"way": way} if way != "parent" else {"way": way, "child": "none"})
                if rows.of(key).empty:
                    rows.append(key | row for row in run(trainer, way, parent.architecture, child, schedule, folder))
                    print(*key.values(), flush=True)
    show(pd.read_csv(options.csv))


def run(
    trainer: Training, way: str, parent: Architecture, child: Child, schedule: list[list[Any]], folder: str
) -> list[dict[str, Any]]:
    """The rows of one training. schedule: stages of a child."""
    work = trainer.start(_job(child.architecture if way != "parent" else parent, schedule, folder))
    share = 0.0 if way == "new" else inherit(work.network, trained_parent(trainer, parent, schedule[0][1], folder))
    rows, done = [], 0
    for end, *_ in schedule:
        for epoch in range(done, end):
            work.train_epoch(epoch)
        points = measure_points(work.network, trainer.source, work.calibration, test=False)
        rows += [point | {"epochs": end, "copied": round(share, 3)} for point in points]
        done = end
    return rows


def trained_parent(trainer: Training, parent: Architecture, images: int, folder: str) -> AnytimeNetwork:
    """The parent after partial training, trained once."""
    own = Path(folder, "parent")
    if not own.exists():
        partial = own.with_name("partial")
        shutil.rmtree(partial, ignore_errors=True)
        trainer.evaluate(_job(parent, stages(PARENT_EPOCHS, images), str(partial)), lambda epoch: None)
        partial.rename(own)
    return nas.load(own)


def _job(architecture: Architecture, schedule: list[list[Any]], folder: str) -> Job:
    end, images, *_ = schedule[-1]
    return Job(
        candidate=0,
        architecture=architecture.to_json(),
        seed=derived_seed("inherited"),
        epochs=end,
        until=end,
        images=images,
        folder=folder,
        stages=schedule,
    )


def show(rows: pd.DataFrame) -> None:
    """Print the table: by parent, way and number of epochs."""
    place = ["data", "max_macs", "images", "network", "epochs"]
    lines = []
    for values, found in scored(rows, [*place, "child", "way"]).groupby(place, sort=False):
        children = found.set_index("child")
        new = children[children.way == "new"]
        for way, group in children.groupby("way", sort=False):
            lines.append(
                dict(zip(place, values))
                | {"way": way, "children": len(group), "copied": group.copied.mean()}
                | {"accuracy": 100 * group.accuracy.mean()}
                | {"to new": in_points(group.accuracy - new.accuracy) if way == "inherited" else ""}
            )
    print(pd.DataFrame(lines).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
