"""The texts that the command line prints: tables of a store and of results, with the commands that use them."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.audit.wording import reliance_line
from nas.chain.importance import TRAINING, chain_scores, walk_of
from nas.chain.summary import TrainingSummary, training_summary
from nas.config import shown_store, store_option
from nas.errors import UserError
from nas.funnel.preparing.stored_defaults import budgets_sentence, left_out_sentences
from nas.progress import duration
from nas.reporting.formats import reference_mark, reference_text, warm_start_text
from nas.representation.architecture import Architecture
from nas.representation.elements import Operation, size_text
from nas.spaces.choices import Primitive
from nas.study import Study, stored_architecture
from results.columns import FRAMES, own_columns
from results.errors import StoreError
from results.measures import WHOLE_UNITS

if TYPE_CHECKING:
    import pandas as pd

    from nas.deploy.controllers import ThrottlingResult
    from nas.deploy.select import OperatingPointsResult
    from nas.deploy.train import TrainingResult
    from nas.evaluation.jobs import Outcome
    from results.merging.merge import MergedStudy
    from results.reading.stored_networks import StoredCandidate
    from results.store import Store

SILENT = 60.0  # seconds without a write, after which the activity of a study is not shown
SHOWN = 20  # nodes, and trainings
MEAN_OF_LABELS = "Accuracy: mean over fine and coarse labels; labels that a point does not predict count as wrong."
FRONT_COLUMNS = ("macs", "params", "accuracy", "test_accuracy", "candidate", "level")
_WHOLES = {column.name for columns in FRAMES.values() for column in columns if column.unit in WHOLE_UNITS}
_FORMATS = dict.fromkeys(_WHOLES, "{:,.0f}") | {
    "latency_ms": "{:.3f}",
    "accuracy_sd": "{:.4f}",
    "utilization": "{:.2f}",
    "penalty": "{:g}",
}


def summary(study: Study) -> str:
    """The result of a search: front, anytime accuracy, range of budgets, audit, store, and the next commands."""
    front = study.front()
    option = store_option(study.store.label)
    if front.empty:
        return f"No candidate has been trained. See why: nas status {study.name}{option}"
    score, best = study.score(), study.store.best(study.name)
    assert best is not None, "there are points, and the score is known"
    test = ""
    if front.test_accuracy.notna().all():
        test = f", {study.anytime_accuracy('test'):.4f} on test images"
    command = f"import nas; print({load_code(study, best.key[:8], 0)}.macs)"
    comparison = study.against_reference()
    lines = [
        front_table(front),
        "",
        f"Anytime {score.quantity} {study.anytime_accuracy():.4f} on validation images{test}, "
        f"for budgets of {score.low:,.0f} to {score.high:,.0f} MACs.",
        *([reference_text(comparison)] if comparison else []),
        study.audit_lines(),
        f"Stored in {study.store.label} as study {study.name!r}: {study.store.ending(study.name)[1]}",
        "Next:",
        f"  nas front {study.name} --plot front.png{option}",
        f"  nas show {best.key[:8]} --study {study.name}{option}",
        *([f"  python -c {shlex.quote(command)}"] if best.saved else []),
    ]
    return "\n".join(lines)


def keeps_weights(study: Study, key: str, repeat: int) -> bool:
    """Whether the weights of a training can be loaded. A table of results, for example, has none."""
    try:
        study.store.find_network(key, study.name, repeat)
    except StoreError:
        return False
    return True


def load_code(study: Study, key: str, repeat: int, *, absolute: bool = False) -> str:
    """The Python expression that loads a training of a candidate of a study.

    absolute: whether it may be read in another working directory.
    """
    store = json.dumps(shown_store(study.store.label, absolute=absolute))
    which = f", repeat={repeat}" if repeat else ""
    return f'nas.load("{key}", study="{study.name}", store={store}{which})'


def front_table(front: pd.DataFrame) -> str:
    """A front as text: MACs and parameters with separators, accuracies as fractions."""
    if front.empty:
        return "The front is empty: no operating point has been measured within these limits."
    columns = [c for c in FRONT_COLUMNS if c in front]
    columns[4:4] = hierarchy_columns(front)
    if front.latency_ms.notna().any():
        columns.insert(2, "latency_ms")
    columns[columns.index("candidate") : columns.index("candidate")] = own_measures(front, "front")
    if front.repeats.max() > 1:
        columns += ["accuracy_sd", "repeats"]
    if front.groupby("candidate").realised_key.nunique().max() > 1:
        columns.append("realised_key")
    if front.reference.notna().any():
        columns.append("reference")
    if front.study.nunique() > 1:
        columns.append("study")
    if "store" in front:
        columns.append("store")
        front = front.assign(store=front.store.map(shown_store))
    if "data" in front:
        columns.append("data")
    return _table(front[columns]) + (f"\n{MEAN_OF_LABELS}" if hierarchy_columns(front) else "")


def hierarchy_columns(points: pd.DataFrame) -> list[str]:
    """Columns with the accuracies of fine and coarse labels; empty if labels have no hierarchy.

    On test images if all points have them, otherwise on validation images.
    """
    for names in (["test_fine_accuracy", "test_coarse_accuracy"], ["fine_accuracy", "coarse_accuracy"]):
        if not points.empty and set(names) <= set(points) and points[names[1]].notna().all():
            return names
    return []


def own_measures(frame: pd.DataFrame, kind: str) -> list[str]:
    """Columns of the evaluator's own measures that hold values; kind: a key of ``results.columns.FRAMES``."""
    return [name for name in own_columns(frame, kind) if frame[name].notna().any()]


def _table(frame: pd.DataFrame) -> str:
    """A table as text: thousands separated, fractions with four digits, milliseconds with three."""
    from pandas import isna

    def formatter(form: str) -> Callable[[Any], str]:
        return lambda value: "–" if isna(value) else form.format(value)

    formats = {
        name: formatter(_FORMATS.get(name, "{:.4f}"))
        for name in frame
        if name in _FORMATS or str(name).endswith("accuracy")
    }
    return frame.to_string(index=False, formatters=formats, na_rep="–")


def select_text(choice: OperatingPointsResult, folder: Path) -> str:
    """The operating points that a final search chose, and a command that loads the saved network."""
    points = choice.points
    columns = ["level", "macs", "params", "latency_ms", "accuracy", "test_accuracy", *hierarchy_columns(points)]
    search = choice.selection.search
    return (
        _table(points[columns])
        + f"\nChosen from {search.seen:,} subnetworks, {len(search.measured):,} of them measured."
        + f"\nSaved: python -c \"import nas; print(nas.load('{folder}').macs)\""
    )


def _waiting(outcome: Outcome) -> str:
    share = outcome.waiting
    return f", {share:.0%} of the epochs waiting for the disk" if share >= 0.005 else ""


def train_text(result: TrainingResult, folder: Path) -> str:
    """The operating points of a trained network, and a command that loads it."""
    points, outcome = result.points, result.outcome
    epochs = f"{outcome.epochs} epoch{'s' * (outcome.epochs != 1)}"
    columns = ["level", "macs", "params", "accuracy", "test_accuracy", *hierarchy_columns(points)]
    return (
        _table(points[columns]) + f"\nTrained for {epochs} of {outcome.images:,} images in {outcome.seconds:,.0f} s, "
        f"{outcome.epochs * outcome.images / max(1e-9, outcome.seconds):,.0f} images per second{_waiting(outcome)}."
        + f"\nSaved: python -c \"import nas; print(nas.load('{folder}').macs)\""
    )


def throttle_text(result: ThrottlingResult, folder: Path) -> str:
    """MACs and accuracy at fixed utilizations and with controllers, and the code that loads a saved controller."""
    network, penalty = f"nas.load('{folder}')", f"{result.policies.penalty[0]:.12g}"
    kind = type(result.controllers[0]).__name__
    return (
        _table(result.points)
        + "\n\nWith controllers; MACs: mean over examples, network and controller together:\n"
        + _table(result.policies)
        + f"\nSaved: nas.ControlledNetwork({network}, nas.{kind}.load('{Path(folder, 'controllers', penalty)}'))"
    )


def check_folder_of(option: str, file: Path) -> None:
    """Raise UserError unless the folder of an option's file exists."""
    folder = file.resolve().parent
    if not folder.is_dir():
        raise UserError(f"{option} must be in an existing folder. Got {file}: make {folder} first.")


def write_frame(frame: pd.DataFrame, path: Path, kind: str) -> None:
    """Write a DataFrame as CSV or Parquet (kind "csv" or "parquet").

    Raises UserError if the file is not writable, or if pyarrow is not installed.
    """
    check_folder_of(f"--{kind}", path)
    try:
        if kind == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
    except ImportError as error:
        raise UserError("--parquet needs pyarrow: pip install pyarrow.") from error
    except OSError as error:
        raise UserError(f"{path} must be writable: {error.strerror or error}.") from error


def studies_table(studies: pd.DataFrame) -> str:
    """All studies, one on each line."""
    if studies.empty:
        return "The store holds no study. Start one: nas search"
    columns = ["study", "state", "candidates", "trained", "updated_at", "reason"]
    return studies[columns].assign(updated_at=studies.updated_at.dt.floor("s")).to_string(index=False, na_rep="–")


def table_text(frame: pd.DataFrame) -> str:
    """A table of studies as text, without columns that have no value; JSON text is left to files."""
    if frame.empty:
        return "The table is empty."
    times = {name: column.dt.floor("s") for name, column in frame.items() if column.dtype.kind == "M"}
    shown = frame.assign(**times).dropna(axis="columns", how="all").drop(columns="choices", errors="ignore")
    return _table(shown)


def compare_text(frame: pd.DataFrame, cost: str) -> str:
    """Studies side by side, and the range of budgets that they are compared on."""
    rows = _table(frame.drop(columns=["low", "high"]).dropna(axis="columns", how="all"))
    known = frame.dropna(subset=["low"])
    if known.empty:
        return f"{rows}\nNo study has a range of budgets yet."
    return f"{rows}\nAnytime accuracy for budgets of {known.low.iloc[0]:,.6g} to {known.high.iloc[0]:,.6g} in {cost}."


def status_data(study: Study) -> dict[str, Any]:
    """The state of a study as plain JSON data."""
    progress, best = study.store.summary(study.name), study.store.best(study.name)
    ended, reason = study.store.ending(study.name)
    score, comparison = study.store.score(study.name), study.against_reference()
    return {
        "study": study.name,
        "state": ended,
        "reason": reason,
        "score": None if score is None else asdict(score),
        "statuses": [asdict(each) for each in progress.statuses],
        "scored": progress.scored,
        "worker_seconds": progress.seconds,
        "seconds": study.state.seconds,
        "best": None if best is None else asdict(best),
        "against_reference": None if comparison is None else reference_text(comparison),
        "activity": study.store.activity(study.name),
    }


def merged_text(merged: MergedStudy) -> str:
    """What became of a study of another store, in one line."""
    if merged.outcome == "present":
        return f"{merged.study}: already here, with all results of {merged.store}."
    name = "" if merged.study == merged.origin else f"{merged.origin} of "
    how = "copied" if merged.outcome == "new" else "replaced by its continuation"
    return (
        f"{merged.study}: {how} from {name}{merged.store}, {merged.candidates:,} candidates and "
        f"{merged.networks:,} trained networks."
    )


def study_status(study: Study) -> str:
    """The state of a study: candidates by status, each with an example of a reason; best candidate; time."""
    progress, state = study.store.summary(study.name), study.state
    ended, reason = study.store.ending(study.name)
    score = study.store.score(study.name)
    lines = [f"Study {study.name!r}: {ended}. {reason or ''}".rstrip()]
    lines += activity_lines(study.store.activity(study.name), time.time())
    if origin := warm_start_text(study):
        lines.append(f"{origin[0].upper()}{origin[1:]}, which are not counted below.")
    if score is not None:
        stored = study.store.settings(study.name)
        lines.append(f"{budgets_sentence(score, stored)} Floor: {score.floor:.4f}.")
        lines += left_out_sentences(stored)
    for group in progress.statuses:
        example = f"  e.g. {group.reason}" if group.reason else ""
        lines.append(f"{group.candidates:8,} {group.status:11}{example}")
    if (top := study.store.best(study.name)) is not None:
        lines.append(
            f"Best anytime {score.quantity if score else 'accuracy'} {top.anytime_accuracy:.4f}: {top.key} "
            f"({top.space}{reference_mark(top.reference)}), fidelity {top.fidelity:g}"
        )
        if comparison := study.against_reference():
            lines.append(reference_text(comparison))
        lines.append(f"Training: {progress.seconds:,.0f} s summed over workers, {progress.scored:,} candidates.")
    if state.seconds:
        share = state.screening / state.seconds
        lines.append(f"The search has run for {duration(state.seconds)}, {share:.1%} of it proposing and screening.")
    if reliance := reliance_line(study.config.proxy, state.reliance):
        lines.append(reliance)
    lines += [f"Changed since the last run: {sentence}" for sentence in study.plugin_changes]
    if ended != "finished":
        lines += filter(None, [state.rejections.majority()])
        lines.append(f"Continue with: nas resume {study.name}{store_option(study.store.label)}")
    return "\n".join(lines)


def activity_lines(activity: Mapping[str, Any] | None, now: float) -> list[str]:
    """Nodes and trainings of a run, with the age of this information.

    Parameters
    ----------
    activity
        From :meth:`results.store.Store.activity`; None for a study that does not run.
    now
        The present time, in seconds since 1970.
    """
    if activity is None:
        return []
    age, nodes, running = max(0.0, now - activity["at"]), activity["nodes"], activity["running"]
    at = f"{activity['stage'] or 'start'}, {duration(age)} ago"
    if age > SILENT:
        return [f"Last sign of life: {at}. It proposes candidates, or its process was killed."]
    used = Counter(job["node"] for job in running)
    slots = [f"{node} {used[node]}/{count}" for node, count in sorted(nodes.items())]
    shown = ", ".join(slots[:SHOWN]) + (", …" if len(slots) > SHOWN else "")
    count = f"{len(nodes):,} node{'s' * (len(nodes) != 1)}"
    lines = [f"At work: {at}. {len(running):,} of {sum(nodes.values()):,} slots train, on {count}: {shown}"]
    for job in running[:SHOWN]:
        place = f" on {job['node']}" if job["node"] else ""
        lines.append(f"  {(job['key'] or '?')[:8]}{place}: epoch {job['epoch']} of {job['until']}")
    if len(running) > SHOWN:
        lines.append(f"  and {len(running) - SHOWN:,} more")
    return lines


def candidate_text(store: Store, found: StoredCandidate) -> str:
    """One candidate of a study: its choices, its measurements, and the topology of its trained network."""
    study, key = found.study, found.candidate
    architecture = stored_architecture(store, found.realised)
    lines = [
        f"{key}: {len(architecture.points)} operating points, norm {architecture.norm}, "
        f"rule {architecture.training.rule}"
        + "".join(f", {name}={value}" for name, value in architecture.training.settings)
        + _label_counts(architecture)
    ]
    if found.realised != key:
        lines.append(f"Trained, it became {found.realised}: its topology is below, and the weights are its own.")
    points, candidates = store.points(study, key=key), store.candidates(study, key=key)
    points = points[points.candidate == key]
    if not points.empty:
        row = candidates[(candidates.key == key) & candidates.anytime_accuracy.notna()].iloc[0]
        lines += [
            f"Study {study}, space {row.space}{reference_mark(row.reference)}, generation {row.generation}, "
            f"{row.status}: {row.reason}",
            f"Anytime accuracy {row.anytime_accuracy:.4f}; "
            + ", ".join(f"{name.removeprefix('proxy_')} {row[name]:.4g}" for name in row.index if "proxy_" in name),
            "Choices: " + ", ".join(f"{name} = {value}" for name, value in short_choices(row.choices)),
            _measurements(points),
        ]
    summary = training_summary(architecture)
    return "\n".join([*lines, *_topology_lines(architecture, summary), *_stage_lines(summary)])


def short_choices(choices: str) -> list[tuple[str, Primitive]]:
    """Names without the space, and options, of the choices of a candidate as stored."""
    return [(name.partition("/")[2] or name, option) for name, option in json.loads(choices).items()]


def _label_counts(architecture: Architecture) -> str:
    """The number of labels that every point predicts; empty if labels have no hierarchy."""
    counts = architecture.task.label_counts
    predicted = "/".join(str(counts[architecture.labelling(point)]) for point in architecture.points)
    return f", answers in {predicted} labels" if len(counts) > 1 else ""


def _measurements(points: pd.DataFrame) -> str:
    """A candidate's points as a table, with the MACs of nonzero weights if some weights are zero."""
    from results.measures import HIERARCHY

    columns = ["fidelity", "repeat", "level", "macs", "params", "accuracy", "test_accuracy"]
    if (points.nonzero_macs < points.macs).any():
        columns.insert(4, "nonzero_macs")
    hierarchy = [name for name in HIERARCHY if points[name].notna().any()]
    ordered = points.sort_values(["fidelity", "repeat", "level"])[columns + hierarchy + own_measures(points, "points")]
    shown = ordered.to_string(index=False, na_rep="–", float_format="{:.4f}".format)
    return f"{shown}\n{MEAN_OF_LABELS}" if hierarchy else shown


def _topology_lines(architecture: Architecture, summary: TrainingSummary) -> list[str]:
    """Every map: channels at each level, topological accumulated score (TAS), high band, incoming operations."""
    topology = architecture.topology
    walk = walk_of(architecture)
    source = "training chain" if walk == TRAINING else f"walk {walk!r}"
    lines = [
        f"Topology (map: channels at every level × size; TAS of the {source}; share of the high band in the signal; "
        "← incoming operations, with training importance):"
    ]
    active, score = [topology.active(point) for point in architecture.points], chain_scores(architecture, walk).maps
    high = {trained.map: trained.high_signal for trained in summary.maps}
    importance = {each.operation: each.importance for each in summary.operations if each.learned}
    for index, feature_map in enumerate(topology.maps):
        channels, size = "/".join(str(counts[index]) for counts in active), size_text(feature_map.size)
        bands = f"  high {high[index]:3.0%}" if feature_map.size and index in high else ""
        incoming = ", ".join(
            _described(topology.operations[o]) + (f" ({importance[o]:.1%})" if o in importance else "")
            for o in topology.incoming[index]
        )
        lines.append(f"{index:4}: {channels} × {size}  TAS {score[index]:.3f}{bands}  ←  {incoming or 'input'}")
    return lines


def _stage_lines(summary: TrainingSummary) -> list[str]:
    """The stages of the training chain as a table, and the part that training reaches least."""
    if not summary.stages:
        return []
    lines = [
        "Training chain (mean over operating points; high band: share in the signal and in the gradient):",
        "stage    size       learned operations  gradient  high band",
    ]
    for stage in summary.stages:
        bands = f"{stage.high_signal:4.0%} / {stage.high_gradient:.0%}" if stage.size else "   –"
        lines.append(
            f"{stage.stage:5}    {size_text(stage.size):9}  {stage.operations:18}  {stage.gradient:8.1%}  {bands}"
        )
    trained = f"Trained like {summary.effective:.1f} equal operations of {summary.learned:g}."
    return [*lines, *filter(None, (trained, summary.sentence))]


def _described(operation: Operation) -> str:
    window = "×".join(map(str, operation.kernel))
    grouped = f" in {operation.groups} groups" if operation.groups > 1 else ""
    stride = f" stride {operation.stride[0]}" if operation.stride and max(operation.stride) > 1 else ""
    return " ".join(f"{operation.kind} {window}{stride}{grouped} of {operation.source}".split())
