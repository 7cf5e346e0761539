"""Evaluators: data, training, rules, controllers and reference proxies."""
