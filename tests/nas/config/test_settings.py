"""Settings: refused values, defaults that depend on the data, and storing."""

from __future__ import annotations

import inspect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.config import CHANGEABLE, Config, description_of, option, settings_of
from nas.errors import UserError

NAMES = [each.name for each in settings_of(Config)]


def refused(name, value):
    """The message that a value is refused with."""
    with pytest.raises(UserError) as caught:
        Config(**{name: value})
    return str(caught.value)


def test_settings_with_a_default_may_not_be_none():
    for each in settings_of(Config):
        if each.default is not None and each.name != "spaces":
            assert option(each.name) in refused(each.name, None)


@pytest.mark.parametrize("value", [object(), [], {}, b"x"], ids=["object", "list", "dict", "bytes"])
def test_settings_of_another_type_are_refused(value):
    assert all(refused(name, value) for name in NAMES)


@pytest.mark.parametrize("value", [True, 1.0, "1", math.nan, -1])
def test_whole_numbers_are_whole(value):
    for each in settings_of(Config):
        if isinstance(each.default, int) and not isinstance(each.default, bool):
            assert option(each.name) in refused(each.name, value)


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "10.0.0.1:6379", "ray://head:10001", "[::1]:6379"])
def test_addresses_of_clusters(address):
    assert Config(ray=address).ray == address


@pytest.mark.parametrize("address", ["head", "http://head:8265", "ray://head", "", "head:port", "a b:1"])
def test_other_addresses_are_refused(address):
    assert "HOST:PORT" in refused("ray", address) or "address" in refused("ray", address)


def test_resources_are_reserved_on_ray_only():
    assert Config(ray=True, resources=("tpu=0.5", "disk=2")).custom_resources() == {"tpu": 0.5, "disk": 2.0}
    for name, value in (("gpus_per_trial", 0.25), ("cpus_per_trial", 2.0), ("resources", ("tpu=1",))):
        assert "needs --ray" in refused(name, value)


def test_an_asynchronous_search_needs_ray_and_has_a_scheduler():
    assert "--async needs --ray" in refused("asynchronous", True)
    assert "--scheduler needs --async" in refused("scheduler", "asha")
    assert "true or false" in refused("asynchronous", "yes")
    resolved = Config(asynchronous=True, ray=True).resolved(10_000)
    assert (resolved.asynchronous, resolved.scheduler) == (True, "asha")
    waiting = Config(asynchronous=False).resolved(10_000)
    assert (waiting.asynchronous, waiting.scheduler) == (None, None)  # as in a study of an older version
    with pytest.raises(UserError, match="Did you mean 'median'"):
        Config(asynchronous=True, ray=True, scheduler="mediam")


def test_hyperband_refuses_a_limit_that_tune_would_ignore():
    settings = {"asynchronous": True, "ray": True, "workers": 2}
    with pytest.raises(UserError, match=r"hyperband trains on all slots .* Got --workers 2: leave it out"):
        Config(scheduler="hyperband", **settings)
    assert Config(scheduler="median", **settings).workers == 2


@pytest.mark.parametrize("text", ["tpu", "tpu=", "=1", "tpu=0", "tpu=-1", "tpu=nan", "tpu=1e3"])
def test_amounts_of_resources_are_positive_numbers(text):
    with pytest.raises(UserError, match="--resource must be NAME=AMOUNT"):
        Config(ray=True, resources=(text,))


@pytest.mark.parametrize("text", ["CPU=1", "GPU=1", "memory=5"])
def test_resources_of_ray_have_options_of_their_own(text):
    with pytest.raises(UserError, match="--gpus-per-trial"):
        Config(ray=True, resources=(text,))


@pytest.mark.parametrize(
    ("name", "value"), [("gpus_per_trial", 1.5), ("cpus_per_trial", 1e-5), ("cpus_per_trial", 1 / 3)]
)
def test_amounts_are_those_that_ray_can_reserve(name, value):
    assert option(name) in refused_on_ray(name, value)


def refused_on_ray(name, value):
    with pytest.raises(UserError) as caught:
        Config(ray=True, **{name: value})
    return str(caught.value)


def test_every_setting_has_one_line_of_help():
    for each in settings_of(Config):
        text = description_of(each).help
        assert text.endswith((".", "…"))
        assert "\n" not in text


def test_python_has_the_settings_of_the_command_line():
    python = set(inspect.signature(nas.search).parameters)
    assert python - {"space", "store", "progress", "accept_plugin_change"} == set(NAMES) - {"spaces"}
    assert set(inspect.signature(nas.resume).parameters) == {
        *("study", "retry_failed", "accept_plugin_change", "space", "store", "progress"),
        *CHANGEABLE,
    }


@given(st.integers(1, 200), st.integers(1, 20_000), st.integers(1, 100_000))
def test_what_is_left_open_is_found_from_the_size_of_the_data(epochs, images, train_images):
    resolved = Config(images=images).resolved(train_images)
    assert resolved == resolved.resolved(train_images)
    assert 9 <= resolved.epochs <= 21
    assert resolved.full_epochs == max(20, 2 * resolved.epochs)
    assert Config(epochs=epochs, images=images).resolved(train_images).full_epochs == max(20, 2 * epochs)


@given(st.floats(1e-6, 100), st.integers(2, 5_000), st.integers(1_000, 100_000))
def test_short_searches_have_shorter_epochs_of_partial_training(hours, classes, train_images):
    short = Config(hours=hours).resolved(train_images, classes=classes)
    long = Config().resolved(train_images, classes=classes)
    assert max(classes, 2_000) <= short.images <= long.images == 10_000
    assert short.images in (classes, 2_000) or short.images == pytest.approx(min(10_000, 30_000 * hours), abs=1)
    assert short.epochs == long.epochs
    assert short == short.resolved(train_images, classes=classes)
    assert Config(hours=hours, images=7_000).resolved(train_images).images == 7_000


@given(st.integers(1, 1000))
def test_rungs(epochs):
    rungs = Config(epochs=epochs).rungs()
    assert rungs == tuple(sorted(set(rungs)))
    assert rungs[-1] == epochs
    assert rungs[0] == math.ceil(epochs / 9)
    assert len(rungs) <= 3


@pytest.mark.parametrize(
    ("settings", "train_images", "fits"),
    [
        ({"epochs": 9, "final_epochs": 9}, 1000, False),  # the same fidelity: its rows would be those of the finalists
        ({"epochs": 9, "final_epochs": 8}, 1000, False),
        ({"epochs": 9, "final_epochs": 4, "images": 500}, 1000, False),  # 4.5 passes
        ({"epochs": 9, "final_epochs": 5, "images": 500}, 1000, True),
        ({"epochs": 8, "final_epochs": 4, "images": 500}, 1000, False),  # as much, and not the same
        ({"final_epochs": 1}, 10_000_000, True),
    ],
)
def test_full_training_is_more_than_partial_training(settings, train_images, fits):
    config = Config(**settings)
    if fits:
        config.resolved(train_images)
    else:
        with pytest.raises(UserError, match="--final-epochs"):
            config.resolved(train_images)


def test_stored_settings_come_back_and_tell_limits_apart():
    config = Config(study="x", spaces=("a", "b"), max_macs=1e6, train=7, hours=2.0)
    stored = config.stored()
    assert {name for name in stored if name.startswith("_")} == {f"_{name}" for name in CHANGEABLE if name != "files"}
    assert Config.from_stored("x", {**stored, "data_fingerprint": "0"}) == config
    assert Config.from_stored("x", {**stored, "spaces": ["a", "b"]}) == config
    with pytest.raises(UserError, match="unknown to this version: colour"):
        Config.from_stored("x", {**stored, "colour": "red"})


def test_spaces():
    assert Config().spaces == Config(spaces=()).spaces == ()  # those that suit
    with pytest.raises(UserError, match="named once"):
        Config(spaces=("a", "a"))
    with pytest.raises(UserError, match="Spaces must be names"):
        Config(spaces="residual")
