"""Checks for plug-in authors: each is small and named, and a failure gives its reason.

In a test, one line per check::

    @pytest.mark.parametrize(("name", "check"), search_space_checks("my_space.py:MySpace"))
    def test_my_space(name, check):
        check()

or all at once: ``check_search_space(MySpace)``. A check that fails raises PluginError. A plug-in is given as an object,
its class, or the name or ``file.py:Name`` of the command line; it is loaded when a check runs.
"""

from nas.testing.checks import Check
from nas.testing.data import check_data, data_checks
from nas.testing.evaluators import check_evaluator, evaluator_checks
from nas.testing.kinds import check_kind, kind_checks
from nas.testing.proxies import check_proxy, proxy_checks, sample_architectures
from nas.testing.spaces import TASKS, check_search_space, search_space_checks
from nas.testing.strategies import check_strategy, strategy_checks
from nas.testing.training_rules import check_training_rule, training_rule_checks

__all__ = [
    "TASKS",
    "Check",
    "check_data",
    "check_evaluator",
    "check_kind",
    "check_proxy",
    "check_search_space",
    "check_strategy",
    "check_training_rule",
    "data_checks",
    "evaluator_checks",
    "kind_checks",
    "proxy_checks",
    "sample_architectures",
    "search_space_checks",
    "strategy_checks",
    "training_rule_checks",
]
