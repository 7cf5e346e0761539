"""Loading evaluators: the plug-in, and the checks of its data specification and device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.config.naming import ARRAY_FILES, IMAGE_FILES, split_data
from nas.errors import PluginError, UserError
from nas.evaluation.evaluator import Evaluator, LoadedData
from nas.files import absolute
from nas.plugins import canonical_spec, load_plugin, trust_named
from results.errors import StoreError
from results.measures import check_declaration


def load_evaluator(name: str, data: str | LoadedData, settings: dict[str, Any]) -> Evaluator:
    """Construct an evaluator.

    Parameters
    ----------
    name
        Name of an installed evaluator, ``path/file.py:Name``, or ``NAME:FILE`` for an evaluator that reads a file.
    data
        Data specification; or data in memory, for an evaluator that accepts them.
    settings
        Keyword arguments of the evaluator.

    Raises
    ------
    PluginError
        If the plug-in is not an evaluator, declares invalid measures, or its constructor raises another exception than
        a UserError.
    UserError
        As raised by the constructor; or if a file is named for an evaluator that reads none, or missing.
    """
    plugin_name, file = split_evaluator(name)
    plugin = load_plugin("nas.evaluators", plugin_name)
    if not (isinstance(plugin, type) and issubclass(plugin, Evaluator)):
        raise PluginError(f"An evaluator must be a subclass of nas.evaluation.evaluator.Evaluator. Got {plugin!r}.")
    if plugin.reads_file and not file:
        raise UserError(f"The evaluator {name!r} reads a file: name it, such as --evaluator {plugin_name}:table.csv.")
    if file and not plugin.reads_file:
        raise UserError(f"The evaluator {plugin_name!r} reads no file. Got {name!r}: leave out {':' + file!r}.")
    if file:
        settings = {**settings, "file": file}
    try:
        evaluator = plugin(data, **settings)
    except UserError:
        raise
    except Exception as error:  # any exception of a plug-in
        raise PluginError(
            f"The evaluator {name!r} must accept data and settings. It raised {type(error).__name__}: {error}"
        ) from error
    try:
        check_declaration(getattr(evaluator, "measures", ()))
    except StoreError as error:
        raise PluginError(f"The measures of the evaluator {name!r}: {error}") from error
    return evaluator


def split_evaluator(name: str) -> tuple[str, str]:
    """The plug-in of an evaluator's name, and the file that follows it; empty if there is none.

    >>> split_evaluator("tabular:tables/cells.csv"), split_evaluator("own.py:Own")
    (('tabular', 'tables/cells.csv'), ('own.py:Own', ''))
    >>> split_evaluator("own.py:Own:table.csv"), split_evaluator("training")
    (('own.py:Own', 'table.csv'), ('training', ''))
    """
    in_file = re.fullmatch(r"(.*?\.py:[^:]*):(.*)", name)
    if in_file is None and (".py:" in name or name.endswith(".py")):
        return name, ""
    plugin, file = in_file.groups() if in_file else name.partition(":")[::2]
    return plugin, file


def absolute_evaluator(name: str) -> str:
    """The name of an evaluator with absolute paths. Raises PluginError if there is no such plug-in."""
    plugin, file = split_evaluator(name)
    return canonical_spec("nas.evaluators", plugin) + (f":{absolute(file)}" if file else "")


def absolute_data(spec: str) -> str:
    """Make the path in a data specification absolute."""
    kind, path, options = _split(spec)
    if path:
        return f"{kind}:{absolute(path)}{options}"
    return canonical_spec("nas.data", spec) if ".py:" in spec else spec


def data_files(spec: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths that a data specification and the settings of its evaluator name: data, and the label hierarchy."""
    return tuple(each for each in (_split(spec)[1], settings.get("hierarchy")) if each)


def _split(spec: str) -> tuple[str, str, str]:
    """As :func:`nas.config.naming.split_data`, but a name that is no path is empty."""
    kind, name, options = split_data(spec)
    named = kind in (*ARRAY_FILES, *IMAGE_FILES) or (kind == "hf" and Path(name).expanduser().is_dir())
    return (kind, name, options) if named else (kind, "", "")


def trust_data(spec: str) -> None:
    """Consent to run the file of a data specification that the user names, if it has one."""
    if spec.partition(":")[0].endswith(".py"):
        trust_named(spec)


def check_device(name: str) -> None:
    """Raise UserError unless torch can use this device. Allocates nothing on a CUDA device."""
    if name in ("auto", "cpu"):
        return
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        valid = "auto, cpu, cuda, cuda:0 or another device of torch"
        raise UserError(f"--device must be {valid}. Got {name!r}.") from error
    try:
        if device.type == "cuda":
            available = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
            problem = "" if available else f"torch sees {torch.cuda.device_count()} CUDA devices"
        else:
            problem = "" if torch.empty(1, device=device).zero_().item() == 0 else "it stores no numbers"
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
    if problem:
        raise UserError(f"--device must be available to torch here, or 'auto'. Got {name!r}: {problem}")
