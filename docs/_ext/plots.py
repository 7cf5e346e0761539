"""The plots of the evidence pages, drawn from the rows in ``benchmarks/rows``.

Each function of :data:`PLOTS` draws one question. Values are aggregated as in the tables of the pages: means over
seeds, medians over repeats.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx.application import Sphinx

from results.front import anytime_accuracy
from results.plots import STYLE

ROWS = Path(__file__).resolve().parents[2] / "benchmarks" / "rows"
NAMES = {"cifar10_10k": "CIFAR-10", "fashion_mnist": "Fashion-MNIST"}
DATA = {"npz:cifar10_10k.npz": "CIFAR-10", "npz:fashion_mnist.npz": "Fashion-MNIST"}
Draw = Callable[[Figure], None]


def rows(name: str) -> pd.DataFrame:
    """The rows of a benchmark."""
    return pd.read_csv(ROWS / f"{name}.csv")


def bars(axes: Axes, labels: list[str], groups: dict[str, Any], *, log: bool = False) -> None:
    """Horizontal bars: one label per row, one colour per group."""
    height = 0.8 / len(groups)
    for number, (name, values) in enumerate(groups.items()):
        axes.barh(np.arange(len(labels)) + number * height, values, height, label=name)
    axes.set_yticks(np.arange(len(labels)) + 0.4 - height / 2, labels)
    axes.invert_yaxis()
    if log:
        axes.set_xscale("log")
    if len(groups) > 1:
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(groups))


def screening(figure: Figure) -> None:
    """Screening: candidates per CPU second."""
    speed = rows("screening").dropna(subset="per_cpu_second").groupby(["space", "task"]).per_cpu_second.mean()
    axes = figure.subplots()
    bars(axes, [f"{space}, {task}" for space, task in speed.index], {"speed": speed.to_numpy()})
    axes.set_xlabel("candidates per CPU second")


def driver_scale(figure: Figure) -> None:
    """The driver: trials per CPU second and resident memory, by candidates of the study."""
    speed, memory = figure.subplots(1, 2)
    for run, found in rows("driver_scale").groupby("run", sort=False):
        kept = found.iloc[np.unique(np.linspace(0, len(found) - 1, 8).astype(int))]
        since = kept[["trials", "cpu_seconds"]].diff()
        speed.plot(kept.candidates, since.trials / since.cpu_seconds, marker=".", label=run)
        memory.plot(kept.candidates, kept.resident_mib, marker=".", label=run)
    speed.set(xlabel="candidates", ylabel="trials per CPU second")
    memory.set(xlabel="candidates", ylabel="resident memory in MiB")
    speed.legend(frameon=False)


def store_scale(figure: Figure) -> None:
    """Queries and commands on large stores: CPU seconds above a store of 100 candidates."""
    best = rows("store_scale").groupby(["run", "candidates"], sort=False).cpu_seconds.min().unstack()
    above = best.sub(best[100], axis=0).drop(columns=100)
    axes = figure.subplots()
    for run, seconds in above.iterrows():
        style = ":" if run.startswith("nas ") else "--" if run.startswith("start") else "-"  # there are too few colours
        axes.plot(seconds.index, seconds.clip(lower=0.01), style, marker="o", markersize=3, label=run)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("candidates")
    axes.set_ylabel("CPU seconds above 100 candidates (at least 0.01)")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)


def kills(figure: Figure) -> None:
    """Kills of drivers and workers: epochs that ran again, and seconds until the next epoch."""
    axes = figure.subplots()
    for victim, each in rows("kills").groupby("victim"):
        axes.plot(each.epochs_again, each.seconds, "o", alpha=0.6, label=f"{victim} killed")
    axes.set_xlabel("epochs that ran again")
    axes.set_ylabel("seconds until the next epoch")
    axes.legend(frameon=False)


def workers(figure: Figure) -> None:
    """One search by runner and number of workers: measured seconds, and the shortest possible ones."""
    search = rows("workers").query("measure == 'scaling'").groupby(["runner", "workers"])[["seconds", "bound"]].median()
    names = [f"{runner}, {count} worker{'s' * (count > 1)}" for runner, count in search.index]
    axes = figure.subplots()
    bars(axes, names, {"measured": search.seconds.to_numpy(), "bound by barriers": search.bound.to_numpy()})
    axes.set_xlabel("seconds of the search after its first batch")


def loading(figure: Figure) -> None:
    """Images per second by epoch and way."""
    axes = figure.subplots()
    for (count, way), each in rows("loading").groupby(["count", "way"], sort=False):
        style = "o-" if way == "folder" else "s--"
        axes.plot(each.epoch, each.images_per_second, style, label=f"{way}, {count:,} files")
    axes.set_xticks([1, 2, 3])
    axes.set_xlabel("epoch")
    axes.set_ylabel("images per second")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def recipe(figure: Figure) -> None:
    """Recipes: anytime accuracy on validation images against that with all images shifted, by data set and passes."""
    keys = ["data", "passes", "network", "seed", "recipe", "max_macs"]
    found = {
        values[:-1]: anytime_accuracy(points.macs, points.accuracy, low=values[-1] / 10, high=values[-1], floor=0.0)
        for values, points in rows("recipe").groupby(keys)
    }
    accuracy = pd.Series(found).rename_axis(keys[:-1]).unstack("recipe")
    gains = accuracy.sub(accuracy["all images shifted"], axis=0).groupby(["data", "passes"]).mean() * 100
    shown = ["no augmentation", "half of the images shifted", "no shifts in the last quarter"]
    axes = figure.subplots()
    names = [f"{NAMES[data]}, {passes} passes" for data, passes in gains.index]
    bars(axes, names, {name: gains[name].to_numpy() for name in shown})
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel("gain over shifting all images, points of anytime accuracy, validation")


def asynchronous(figure: Figure) -> None:
    """Searches with and without barriers in equal time: trained candidates, and seconds of training."""
    equal = rows("asynchronous").query("part == 'equal-time'").groupby("search", sort=False)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, column, label in (
        (left, "trained", "candidates trained in equal time"),
        (right, "training_seconds", "seconds of training in equal time, all slots"),
    ):
        means = equal[column].mean()
        bars(axes, list(means.index), {label: means.to_numpy()})
        axes.set_xlabel(label)


def chain(figure: Figure) -> None:
    """The chain: graphs per CPU second, by method."""
    speed = rows("chain").query("part == 'speed' and of == 'residual'").groupby("what").per_cpu_second.median()
    speed = speed.sort_values(ascending=False)
    axes = figure.subplots()
    bars(axes, list(speed.index), {"speed": speed.to_numpy()}, log=True)
    axes.set_xlabel("graphs per CPU second, residual (logarithmic)")


def training_chain(figure: Figure) -> None:
    """Errors of the training chain in networks of random weights, and rank correlation of its score, by rule."""
    table = rows("chain_random_networks")
    networks, ranked = table.query("part == 'network' and space == 'residual'"), table.query("half == 'tuning'")
    errors = networks.pivot_table(index="rule", columns="what", values="error", sort=False)
    left, right = figure.subplots(1, 2, sharey=True)
    bars(left, list(errors.index), {what: errors[what].to_numpy() for what in errors})
    left.set_xlabel("error in random networks, residual")
    taus = ranked[ranked.what == "accuracy"].pivot(index="rule", columns="space", values="tau").loc[errors.index]
    bars(right, list(taus.index), {space: taus[space].to_numpy() for space in ("residual", "mobile")})
    right.set_xlabel("Kendall τ, tuning half")
    left.invert_yaxis()
    for axes in (left, right):
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=7)


def ranking(figure: Figure) -> None:
    """Rank correlation of the proxies, with intervals."""
    table = rows("ranking_report").query("measure == 'accuracy'")
    order = list(table.query("space == 'residual'").sort_values("tau").proxy)
    for axes, space in zip(figure.subplots(1, 2, sharey=True), ("residual", "mobile")):
        of_space = table[table.space == space].set_index("proxy").loc[order]
        errors = [of_space.tau - of_space.low, of_space.high - of_space.tau]
        axes.errorbar(of_space.tau, range(len(order)), xerr=errors, fmt="o", capsize=2)
        axes.axvline(0, linewidth=0.8)
        axes.set_yticks(range(len(order)), order)
        axes.set_title(space)
        axes.set_xlabel("Kendall τ with anytime accuracy")


def strategies(figure: Figure) -> None:
    """Candidates trained to reach the hypervolume of random search, by table, strategy and proxy."""
    names = ("random", "tpe", "nsga2", "guided", "evolution")
    proxies = {"no proxy": "none", "dtmc": "dtmc", "inverted": "-dtmc", "random scores": "noise"}
    searches = rows("strategies").query("order != 'always'")
    axes = figure.subplots(1, 3)
    for (name, table), axis in zip(searches.groupby("table", sort=False), axes):
        table = table.assign(front=table.front.fillna(table.limit))
        needed = table.groupby(["strategy", "proxy"]).front.quantile(0.5, interpolation="lower")
        present = [of for of in names if (of, "none") in needed.index]
        known = {label: proxy for label, proxy in proxies.items() if (present[0], proxy) in needed.index}
        bars(axis, present, {label: [needed[of, proxy] for of in present] for label, proxy in known.items()})
        axis.set_xlabel(f"candidates, {name}")
        axis.get_legend().remove()
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=len(proxies))


def path_sampling(figure: Figure) -> None:
    """Test accuracy of the operating points by training rule."""
    table = rows("path_sampling").query("kind == 'point' and epoch == epochs")
    rules = ("path_sampling", "uniform_sampling", "degree_sampling", "random_path_sampling")
    for axes, (data, title) in zip(figure.subplots(1, 2), DATA.items()):
        for rule in rules:
            means = (
                table[(table.data == data) & (table.rule == rule)].groupby("level")[["macs", "test_accuracy"]].mean()
            )
            axes.plot(means.macs / 1e6, 100 * means.test_accuracy, "o-", label=rule)
        axes.set_title(title)
        axes.set_xlabel("MACs (millions)")
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[1].legend(frameon=False, fontsize=8)


def width_schedules(figure: Figure) -> None:
    """Difference of the test accuracy to uniform widths, by operating point and schedule."""
    table = rows("width_schedules").query("part == 'plain'")
    labels = {"path": "important groups shrink slowly", "inverse": "all others shrink slowly"}
    for axes, (data, title) in zip(figure.subplots(1, 2, sharey=True), NAMES.items()):
        means = table[table.data == data].groupby(["schedule", "level"]).test_accuracy.mean().unstack("schedule") * 100
        for schedule, label in labels.items():
            axes.plot(means.index + 1, means[schedule] - means.uniform, "o-", label=label)
        axes.axhline(0, linewidth=0.8)
        axes.set_xticks(means.index + 1)
        axes.set_title(title)
        axes.set_xlabel("operating point")
    figure.axes[0].set_ylabel("points ahead of uniform widths")
    figure.axes[1].legend(frameon=False, fontsize=8)


def reuse(figure: Figure) -> None:
    """Time of all refinement steps against one full pass."""
    table = rows("refine").pivot(index="network", columns="batch", values="refine/forward").sort_values(64)
    axes = figure.subplots()
    bars(axes, list(table.index), {"batch 1": table[1].to_numpy(), "batch 64": table[64].to_numpy()})
    axes.axvline(1, linewidth=0.8)
    axes.set_xlabel("time of all refinement steps / time of one full pass")


def matched_macs(figure: Figure) -> None:
    """Test accuracy at matched MACs."""
    table = rows("anytime_accuracy")
    methods = {
        "independent ResNeXt": "networks trained separately",
        "norm per width": "dense, a norm per width",
        "sparse ResNeXt, distilled": "block-triangular ResNeXt, distilled",
        "SteppingNet": "SteppingNet",
        "early exits": "early exits",
    }
    for axes, (data, title) in zip(figure.subplots(1, 2), DATA.items()):
        for method, label in methods.items():
            of_method = table[(table.data == data) & (table.method == method)]
            means = of_method.groupby("level")[["macs", "test_accuracy"]].mean()
            axes.plot(means.macs / 1e6, 100 * means.test_accuracy, "o-", label=label)
        axes.set_title(title)
        axes.set_xlabel("MACs (millions)")
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[1].legend(frameon=False, fontsize=8)


def calibration(figure: Figure) -> None:
    """Test accuracy by the images that norms are estimated on."""
    means = rows("calibration").groupby(["statistics", "level"]).test_accuracy.mean()
    axes = figure.subplots()
    for statistics in means.index.levels[0]:
        axes.plot(100 * means[statistics], "o-", label=f"images {statistics}")
    axes.set_xticks(sorted(means.index.levels[1]))
    axes.set_xlabel("level")
    axes.set_ylabel("test accuracy (%)")
    axes.legend(frameon=False)


def throttling_time(figure: Figure) -> None:
    """CPU time by utilization."""
    table = rows("throttle")
    for axes, batch in zip(figure.subplots(1, 2, sharey=True), (1, 64)):
        for network, curve in table[table.batch == batch].groupby("network", sort=False):
            axes.plot(curve.utilization, 100 * curve.latency_share, "o-", markersize=3, label=network)
        axes.set_title(f"batch {batch}")
        axes.set_xlabel("utilization")
    figure.axes[0].set_ylabel("CPU time, % of that at u = 1")
    figure.axes[1].legend(frameon=False, fontsize=8)


def throttling_accuracy(figure: Figure) -> None:
    """Controllers against fixed utilizations, trained in groups; mean of the seeds."""
    table = rows("throttle_accuracy").query("method == 'in groups'")
    for axes, (data, title) in zip(figure.subplots(1, 2), DATA.items()):
        of_data = table[table.data == data]
        fixed = of_data[of_data.kind == "fixed"].groupby("utilization")[["test_macs", "test_accuracy"]].mean()
        axes.plot(fixed.test_macs / 1e6, 100 * fixed.test_accuracy, "o-", label="fixed utilizations")
        for sees, label in (("answer", "controller sees the smallest answer"), ("input", "controller sees the input")):
            means = of_data[of_data.sees == sees].groupby("penalty")[["test_macs", "test_accuracy"]].mean()
            axes.plot(
                means.test_macs / 1e6, 100 * means.test_accuracy, "s--", markersize=4, label=f"controller {label}"
            )
        axes.set_title(title)
        axes.set_xlabel("mean MACs (millions)")
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[1].legend(frameon=False, fontsize=8)


PLOTS: dict[str, Draw] = {
    "recipe": recipe,
    "screening": screening,
    "store-scale": store_scale,
    "kills": kills,
    "workers": workers,
    "loading": loading,
    "asynchronous": asynchronous,
    "driver-scale": driver_scale,
    "chain": chain,
    "training-chain": training_chain,
    "ranking": ranking,
    "strategies": strategies,
    "path-sampling": path_sampling,
    "width-schedules": width_schedules,
    "reuse": reuse,
    "matched-macs": matched_macs,
    "calibration": calibration,
    "throttling-time": throttling_time,
    "throttling-accuracy": throttling_accuracy,
}
"""Page of docs/evidence → plot. The page `search` shows the figure that the search drew."""


def draw(name: str, path: Path) -> None:
    """Draw one plot into a file."""
    with rc_context(STYLE | {"svg.fonttype": "path"}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        PLOTS[name](figure)
        figure.savefig(path, metadata={"Date": None})


def draw_all(app: Sphinx) -> None:
    """Draw the plots that are older than this file or the rows."""
    folder = Path(app.srcdir, "evidence", "plots")
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(file.stat().st_mtime for file in (Path(__file__), *ROWS.iterdir()))
    for name in PLOTS:
        path = folder / f"{name}.svg"
        if not path.exists() or path.stat().st_mtime < newest:
            draw(name, path)
    for name in ("fashion_front", "pays"):  # drawn by benchmarks
        shutil.copy2(ROWS / f"{name}.png", folder)


def setup(app: Sphinx) -> dict[str, Any]:
    """Draw before pages are read."""
    app.connect("builder-inited", draw_all)
    return {"parallel_read_safe": True, "version": "1"}
