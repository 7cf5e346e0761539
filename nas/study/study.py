"""The results of a study: its tables, the best network, the audit, the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.audit.reference import ReferenceScores
from nas.audit.study_audit import StudyAudit
from nas.chain.summary import PARTS, training_summary
from nas.config import STORE, Config
from nas.errors import UserError, unknown_name
from nas.funnel.preparing.plugin_changes import changed_plugins
from nas.plugins import trust_named
from nas.progress import Progress
from nas.representation.architecture import Architecture
from nas.spaces.loading import load_spaces
from nas.study.tables import StudyTables

if TYPE_CHECKING:
    import pandas as pd

    from nas.execution.network import AnytimeNetwork
    from results.store import Store


def stored_architecture(store: Store, key: str) -> Architecture:
    """The architecture with this full key in a store. Raises results.StoreError if it has none."""
    return Architecture.from_json(store.architecture(key))


class Study(StudyTables):
    """One study of a store, as DataFrames and networks.

    Parameters
    ----------
    name
        Name of the study.
    store
        URL or path of the results store.
    spaces
        Classes and objects among the study's search spaces, by name. Only the audit needs them.

    Attributes
    ----------
    config : nas.config.Config
        The settings of the study.
    store : results.store.Store
        The store, opened for reading.
    url : str
        The absolute path or the URL of the store.

    Raises
    ------
    results.StoreError
        If the store has no such study.

    Examples
    --------
    >>> study = nas.Study("digits")  # doctest: +SKIP
    >>> study.front(max_macs=1e6)[["macs", "accuracy"]]  # doctest: +SKIP
    """

    def __init__(self, name: str, *, store: str = STORE, spaces: Mapping[str, Any] | None = None):
        super().__init__(name, store)
        self._spaces = dict(spaces or {})
        self.config = Config.from_stored(name, self.store.settings(name))

    def __repr__(self) -> str:
        return f"Study({self.name!r}, store={self.store.label!r})"

    def network(self, key: str | None = None, *, repeat: int | None = None) -> AnytimeNetwork:
        """A trained network of the study.

        Parameters
        ----------
        key
            Of a candidate of this study, or of the architecture that training made of it, or its first digits; None:
            the best candidate.
        repeat
            Which training of the candidate, counted from 0; None: see :func:`nas.load`.

        Returns
        -------
        AnytimeNetwork
            With its trained weights; ``preprocess`` converts raw images to its input.

        Raises
        ------
        UserError
            If no candidate has been trained.
        results.StoreError
            If the study has no such network.
        """
        from nas.execution.network import AnytimeNetwork

        return AnytimeNetwork.load(self.store.find_network(key or str(self.best().key), self.name, repeat).weights)

    def training_chain(self, key: str | None = None, *, part: str = "stages") -> pd.DataFrame:
        """The training chain of a candidate as a table: the numbers of its drawing.

        Parameters
        ----------
        key
            Of a candidate of this study, or its first digits; None: the best candidate.
        part
            "stages", "maps" or "operations": the rows.

        Returns
        -------
        pandas.DataFrame
            The fields of :class:`nas.chain.summary.StageTraining`, :class:`nas.chain.training.TrainedMap` or
            :class:`nas.chain.summary.OperationTraining`, as means over operating points.

        Raises
        ------
        UserError
            If the part is unknown, or no candidate has been trained.
        results.StoreError
            If the study has no such candidate.
        """
        import pandas as pd

        if part not in PARTS:
            raise UserError(unknown_name("part", part, PARTS))
        found = self.store.find_candidate(key or str(self.best().key), self.name)
        return pd.DataFrame(list(getattr(training_summary(self._architecture(found.realised)), part)))

    @property
    def plugin_changes(self) -> list[str]:
        """A sentence for each plug-in that has changed since the last run of the study; audits use the present ones."""
        return changed_plugins(self.store.settings(self.name))

    def audit(self, *proxies: str, progress: Progress | None = None) -> pd.DataFrame:
        """Audit proxies against the results of training.

        Parameters
        ----------
        *proxies
            Names, ``file.py:Name``, or "all" for all installed ones; audited besides the study's own and the sizes.
        progress
            Display, see :mod:`nas.progress`.

        Returns
        -------
        pandas.DataFrame
            One row per proxy. Columns: the fields of :class:`nas.audit.audit.AuditRow`, then problem: the reason why a
            proxy could not score a candidate, or None. Accuracies: see :meth:`first_rung`.

        Raises
        ------
        UserError
            If a proxy is unknown, or no candidate has been trained.

        Notes
        -----
        Proxies that need weights take about 0.1 s per architecture, so they are scored on a smaller random sample. The
        scores are kept with the study's files.
        """
        trust_named(*proxies)
        return self.proxy_audit().result(*proxies, progress=progress).frame()

    def proxy_audit(self) -> StudyAudit:
        """The audits on the trained candidates, as objects.

        Returns
        -------
        StudyAudit
            Audits proxies, and compares ranked candidates with random controls.

        Raises
        ------
        UserError
            If no candidate has been trained, or a space of the study cannot be loaded.
        """
        trained = self.first_rung()
        task = self._architecture(str(self.best().key)).task
        config = replace(self.config, low=self.score().low)
        spaces = load_spaces(config.spaces, self._spaces)
        return StudyAudit(
            config=self.config,
            trained=trained,
            reference=ReferenceScores(self.store.files(self.name), config, task, spaces),
            architecture_of=self._architecture,
            reliance=self.state.reliance,
        )

    def audit_lines(self) -> str:
        """The audit as text: two lines on the proxy, and a third on its share of the newest generation.

        Returns
        -------
        str
            The verdict on the proxy; ranked candidates against random controls; the share that the proxy chose.

        Raises
        ------
        UserError
            If no candidate has been trained, or a space of the study cannot be loaded.
        """
        return self.proxy_audit().lines()

    def report(
        self,
        path: str | PathLike[str],
        *proxies: str,
        progress: Progress | None = None,
        interactive: bool = True,
    ) -> Path:
        """Write a report as one self-contained HTML file.

        Parameters
        ----------
        path
            Of the file.
        *proxies
            Audited besides the study's own and the sizes, as in :meth:`audit`; by default all installed ones.
        progress
            Display, see :mod:`nas.progress`.
        interactive
            Whether fronts and progress are charts that react to the pointer; the file has 2 MB more.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        UserError
            If a proxy is unknown, or the file cannot be written.

        See Also
        --------
        nas.reporting.html_report.write_report : One report on several studies.
        """
        from nas.reporting.html_report import write_report

        return write_report([self], path, proxies=proxies or ("all",), progress=progress, interactive=interactive)

    def _architecture(self, key: str) -> Architecture:
        return stored_architecture(self.store, key)
