"""The settings of a search, their descriptions, and the default names of studies and stores."""

from nas.config.description import (
    KEYWORDS,
    REPEATED,
    check_names,
    check_settings,
    default_of,
    description_of,
    option,
    setting,
    settings_of,
    takes,
)
from nas.config.naming import STORE, UNNAMED, shown_store, store_option, study_name
from nas.config.settings import (
    CHANGEABLE,
    CLIENT,
    OF_EVALUATOR,
    SAMPLING,
    Config,
    RunSettings,
    StudySettings,
    TrainingSettings,
    not_on_a_node,
)

__all__ = [
    "CHANGEABLE",
    "CLIENT",
    "KEYWORDS",
    "OF_EVALUATOR",
    "REPEATED",
    "SAMPLING",
    "STORE",
    "UNNAMED",
    "Config",
    "RunSettings",
    "StudySettings",
    "TrainingSettings",
    "check_names",
    "check_settings",
    "default_of",
    "description_of",
    "not_on_a_node",
    "option",
    "setting",
    "settings_of",
    "shown_store",
    "store_option",
    "study_name",
    "takes",
]
