"""Checks before a study starts, and nas.search and nas.resume from Python."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

import nas
import results
from evaluators.data.datasets import from_arrays
from nas.config import CHANGEABLE, Config, study_name
from nas.errors import DataError, UserError
from nas.funnel.preparing.preparation import default_workers, evaluator_of, prepared, stored_settings, worker_call
from nas.launch import preview
from nas.plugins import load_plugin
from nas.spaces.loading import load_spaces

from .searching import SETTINGS, config, space, statuses, toy

Small = load_plugin("nas.search_spaces", space("Small"))
QUICK = {name: value for name, value in SETTINGS.items() if name not in ("data", "study")} | {"evaluator": toy()}


def arrays(count=60):
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (count, 8, 8)).astype(np.uint8), np.arange(count) % 3


# Checks before anything is written ------------------------------------------------------------------------------------


def test_workers_do_not_train_on_the_cpu_after_their_gpu_is_lost(monkeypatch):
    info = evaluator_of(config()).info()
    for available, device in ((True, "cuda"), (False, "auto")):
        monkeypatch.setattr("torch.cuda.is_available", lambda available=available: available)
        assert worker_call(config(device="auto"), info).settings["device"] == device
    assert worker_call(config(device="cpu"), info).settings["device"] == "cpu"


def test_prepared_settings_leave_nothing_open():
    parts, _ = prepared(config(workers=None, epochs=None, final_epochs=None), {})
    settings = parts.config
    assert settings.workers is None  # decided where the study runs, so that it may move to another machine
    assert (settings.epochs, settings.full_epochs) == (21, 42)
    assert parts.info.train_images == 1000
    assert list(parts.screener.spaces) == ["Small"]
    assert prepared(settings, {})[0].config == settings


def test_one_training_at_a_time_on_each_accelerator(monkeypatch):
    assert default_workers(Config(device="cuda")) == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    assert [default_workers(Config(device="cpu", threads=n)) for n in (1, 3, 5, 20)] == [12, 4, 2, 1]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert [default_workers(Config(device=device)) for device in ("auto", "cuda", "cuda:1", "cpu")] == [3, 3, 1, 12]


def test_spaces_of_one_name_are_refused():
    with pytest.raises(UserError, match="'Small' twice"):
        load_spaces([space("Small"), "Small"], {"Small": Small})


def test_a_preview_tells_what_would_be_searched():
    text = preview(config(max_macs=5e6, low=3e4))
    for words in (
        "Data nothing: 1,000 training",
        "1×8×8, 10 classes",
        "Budgets: 30,000 (--low) to 5,000,000 MACs (--max-macs).",
        "1 workers",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"data": "synthetic:n=300"},
            "Augmentation (auto): shifts of at most 2×2 pixels, not mirrored; of no image in up to 1 passes over the "
            "data, of all in 4 or more.",
        ),
        ({"data": "digits", "augment": "flip"}, "Augmentation (flip): no shifts, mirrored at random."),
    ],
)
def test_a_preview_and_the_store_show_the_augmentation(settings, line):
    chosen = config(evaluator="training", epochs=None, final_epochs=None, images=200, **settings)
    assert line in preview(chosen).splitlines()
    parts, _ = prepared(chosen, {})
    assert stored_settings(parts.config, parts.info)["_augmentation"] in line


@pytest.mark.parametrize(
    ("hours", "images", "shown"), [(None, None, "10,000"), (0.1, None, "3,000"), (0.1, 500, "500")]
)
def test_a_preview_shows_the_images_of_partial_training(hours, images, shown):
    """By default they depend on the hours."""
    chosen = config(hours=hours, images=images, final_epochs=None)
    assert f"rungs at epochs (1, 3, 9) of at most {shown} images;" in preview(chosen)


# From Python ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("form", ["class", "object", "list", "specification", "two"])
def test_spaces_are_names_classes_or_objects(store, form):
    spaces = {
        "class": Small,
        "object": Small(),
        "list": [Small],
        "specification": space(),
        "two": [Small, space("Other")],
    }
    study = nas.search("nothing", space=spaces[form], store=str(store), study="toy", **QUICK)
    assert statuses(study)["finished"] == 2
    assert "Small" in set(study.candidates().space)
    assert list(study.audit().proxy) == ["dtmc", "macs", "params", "depth", "count"]
    again = nas.search("nothing", space=spaces[form], store=str(store), study="toy", **QUICK | {"train": 12})
    assert again.candidates().position.notna().sum() == 12


@pytest.mark.usefixtures("in_process")
def test_resuming_classes_needs_them_again(store):
    nas.search("nothing", space=Small, store=str(store), study="toy", **QUICK)
    with pytest.raises(UserError, match="Unknown space 'Small'"):
        nas.resume("toy", store=str(store), train=12)
    study = nas.resume("toy", space=Small, store=str(store), train=12)
    assert study.candidates().position.notna().sum() == 12


def copies(store):
    """The copies of data beside a store."""
    return list((store.parent / f"{store.name}.files" / ".data").glob("*.npz"))


@pytest.mark.usefixtures("in_process")
def test_arrays_of_equal_content_are_stored_once_as_long_as_a_study_names_them(store):
    x, y = arrays()
    for name, data in {"one": (x, y), "two": [x.copy(), y.tolist()], "three": {"x_train": x, "y_train": y}}.items():
        nas.search(data, space=space(), study=name, store=str(store), **QUICK)
    (file,) = copies(store)
    with np.load(file) as archive:
        assert np.array_equal(archive["x_train"], x)
        assert np.array_equal(archive["y_train"], y)
    opened = results.open(str(store))
    assert {opened.settings(name)["data"] for name in ("one", "two", "three")} == {f"npz:{file}"}
    again = nas.search((x, y), space=space(), study="one", store=str(store), **QUICK | {"train": 12})
    assert again.candidates().position.notna().sum() == 12
    for name in ("one", "two", "three"):
        assert copies(store) == [file]
        opened.delete(name)
    assert not copies(store)


@pytest.mark.usefixtures("in_process")
def test_arrays_of_a_study_that_does_not_start_are_not_kept(store):
    impossible = QUICK | {"evaluator": "training", "images": 20, "validation": 0.3, "final_epochs": 20, "low": 1e12}
    with pytest.raises(UserError, match="empty"):  # the data are good, the range of budgets is not
        nas.search(arrays(), space=Small, store=str(store), **impossible)
    assert not copies(store)
    nas.search(arrays(), space=space(), study="s", store=str(store), **QUICK)
    with pytest.raises(results.SettingsDiffer, match="--data npz:"):
        nas.search(arrays(90), space=space(), study="s", store=str(store), **QUICK)
    assert len(copies(store)) == 1


@pytest.mark.usefixtures("in_process")
def test_arrays_without_a_name_are_a_study_for_each_content(store):
    x, y = arrays()
    data = [(x, y), (x, (y + 1) % 3), {"x_train": x, "y_train": y}, SimpleNamespace(x_train=x, y_train=y, name="own")]
    names = [nas.search(each, space=space(), store=str(store), **QUICK).name for each in data]
    assert all(re.fullmatch("arrays-[0-9a-f]{8}", name) for name in names[:3])
    assert names[0] == names[2] != names[1]
    assert names[3] == "own"


@pytest.mark.usefixtures("in_process")
def test_a_study_of_an_older_version_keeps_the_copy_in_its_folder(store):
    nas.search(arrays(), space=space(), study="s", store=str(store), **QUICK)
    (file,) = copies(store)
    older = store.parent / f"{store.name}.files" / "s" / file.name
    file.rename(older)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE studies SET settings = replace(settings, ?, ?)", (str(file), str(older)))
    again = nas.search(arrays(), space=space(), study="s", store=str(store), **QUICK | {"train": 12})
    assert again.candidates().position.notna().sum() == 12
    assert not copies(store)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SimpleNamespace(x_train=arrays()[0]), "data must hold x_train and y_train. Got x_train"),
        ({"x_train": arrays()[0], "y_train": arrays()[1], "x_valid": 1}, "Unknown array 'x_valid'"),
        ((np.ma.masked_equal(arrays()[0], 7), arrays()[1]), "x_train must have no masked entries"),
        ((arrays()[0], np.ma.masked_equal(arrays()[1], 2)), "y_train must have no masked entries"),
        ({"x_train": arrays()[0], "y_train": arrays()[1], "mirror_invariant": "no"}, "must be True or False. Got 'no'"),
        ((None, arrays()[1]), "data must hold x_train and y_train. Got y_train"),
        ({"x_train": arrays()[0], "y_train": arrays()[1], "class_names": "abc"}, "class_names must be a list"),
    ],
)
def test_data_in_memory_that_would_lose_a_part_are_refused(store, data, words):
    with pytest.raises(DataError, match=words):
        nas.search(data, space=Small, store=str(store), **QUICK)
    assert not list(store.parent.iterdir())


@pytest.mark.usefixtures("in_process")
def test_all_that_a_dataset_holds_is_kept(store):
    x, y = arrays()
    given = {"x_val": x[:9], "y_val": y[:9], "y_train_coarse": y // 2, "mirror_invariant": True}
    data = from_arrays(x, y, x, y, class_names=[b"cat", b"dog", b"cow"], **given)
    study = nas.search(data, space=space(), store=str(store), **QUICK)
    kept = nas.load_data(study.config.data)
    assert kept.fingerprint == data.fingerprint
    for name in ("hierarchy", "class_names", "mirror_invariant"):
        assert getattr(kept, name) == getattr(data, name)


@pytest.mark.usefixtures("in_process")
def test_two_data_sets_are_two_studies(store):
    for data in ("first", "second"):
        nas.search(data, space=space(), store=str(store), **QUICK)
    assert sorted(results.open(store).studies().study) == ["first", "second"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (arrays(), "arrays"),
        (SimpleNamespace(name="tiny images", x_train=arrays()[0]), "tiny-images"),
        (SimpleNamespace(x_train=arrays()[0]), "arrays"),
        ("npz:/some/where/fashion_mnist.npz", "fashion_mnist"),
    ],
)
def test_a_study_is_named_like_its_data(data, name):
    assert study_name(data) == name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((np.array([{}] * 4, dtype=object), np.arange(4)), "dtype object"),
        (([[1, 2], [3]], [0, 1]), "one array of numbers"),
        ((np.zeros((4, 8, 8)),), "2 or 4 arrays"),
        (3, "2 or 4 arrays"),
        (None, "2 or 4 arrays"),
    ],
)
def test_data_that_are_no_arrays(store, data, words):
    with pytest.raises(UserError, match=words):
        nas.search(data, space=Small, store=str(store), **QUICK)
    assert not list(store.parent.iterdir())


def test_arrays_are_judged_as_files_are(store):
    x, y = arrays()
    with pytest.raises(DataError, match="one label for every image"):
        nas.search((x, y[:5]), space=Small, store=str(store), device="cpu")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochz": 3}, "Unknown setting 'epochz'. Did you mean 'epochs'"),
        ({"spaces": ("residual",)}, "Unknown setting 'spaces'"),
        ({"epochs": "many"}, "--epochs"),
        ({"space": 3}, "names, classes or objects"),
        ({"space": [3]}, "method architecture"),
        ({"space": "residul"}, "Did you mean 'residual'"),
        ({"strategy": "tpee"}, "Did you mean 'tpe'"),
    ],
)
def test_mistakes_are_told_before_data_are_written(store, settings, words):
    with pytest.raises(UserError, match=words):
        nas.search(arrays(), store=str(store), **settings)
    assert not list(store.parent.iterdir())


def test_no_folder_is_made_for_a_store(tmp_path):
    with pytest.raises(results.StoreError, match="existing folder"):
        nas.search(arrays(), store=str(tmp_path / "missing" / "nas.db"))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("in_process")
def test_limits_alone_may_be_given_anew(store):
    nas.search("nothing", space=space(), store=str(store), study="toy", **QUICK)
    with pytest.raises(UserError, match="Unknown limit 'epochs'") as error:
        nas.resume("toy", store=str(store), epochs=3)
    assert all(name in str(error.value) for name in CHANGEABLE)
    with pytest.raises(results.StoreError, match="Got 'other'"):
        nas.resume("other", store=str(store))
    assert nas.resume("toy", store=str(store), generations=5).candidates().position.notna().sum() == 8  # train stays


@pytest.mark.usefixtures("in_process")
def test_a_store_may_be_a_path(store, tmp_path):
    settings = QUICK | {"optuna": f"sqlite:///{tmp_path}/optuna.db"}
    study = nas.search("nothing", space=space(), store=store, study="toy", **settings)
    assert statuses(study)["finished"] == 2
    assert nas.Study("toy", store=store).front().equals(study.front())
    assert nas.resume("toy", store=store, train=9).candidates().position.notna().sum() == 9


@pytest.mark.usefixtures("in_process")
def test_progress_is_told_in_order(store):
    seen = []

    class Progress:
        def say(self, text):
            raise AssertionError(text)

        def show(self, state):
            seen.append(state)

    nas.search("nothing", space=space(), store=str(store), study="toy", progress=Progress(), **QUICK)
    stages = list(dict.fromkeys(state.stage for state in seen))
    assert stages == [
        "loading the data",
        "measuring the range of budgets",
        *(
            f"generation {number}: {what}"
            for number in (1, 2)
            for what in ("screening", "epoch 1 of 9", "epoch 3 of 9", "epoch 9 of 9")
        ),
        "1 finalist: epoch 5 of 5",
    ]
    shares = [state.done / state.total for state in seen]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert [state.trained for state in seen] == sorted(state.trained for state in seen)
    assert seen[-1].trained == 8
    best = [state.best for state in seen if state.best is not None and "finalist" not in state.stage]
    assert best == sorted(best)  # full training may end below partial training
    assert seen[-1].seconds_left == pytest.approx(0, abs=1e-9)
