"""The results of a study: tables, figures, the best network, the audit, the report."""

from nas.study.study import Study, stored_architecture

__all__ = ["Study", "stored_architecture"]
