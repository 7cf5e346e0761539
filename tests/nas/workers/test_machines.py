"""A mixture of machines is reported once for each kind of machine, with the differences and the nodes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from nas.workers import local
from nas.workers.local import LocalRunner
from nas.workers.machines import Machine, Machines, mixture
from nas.workers.session import EvaluatorCall, opened_evaluator

from ..searching import toy

A100 = Machine(device="A100", cpu="Xeon", instructions="AVX512", torch="2.13.0", blas="mkl", program="0.1.0")
T4 = replace(A100, device="T4")


def test_equal_machines_are_not_reported():
    machines = Machines()
    assert [machines.add(node, replace(A100)) for node in "abca"] == [None] * 4
    assert mixture({"a": A100, "b": A100}) is None


def test_each_kind_is_reported_once_with_its_nodes():
    machines = Machines()
    assert machines.add("a", A100) is None
    assert machines.add("b", T4) == (
        "The nodes differ, so equal trainings may give different rows: device A100 on a, T4 on b."
    )
    assert machines.add("c", T4) is None
    assert machines.add("b", T4) is None
    assert machines.add("d", replace(T4, blas="openblas", torch="")).endswith(
        "device A100 on a, T4 on b, c, d; torch 2.13.0 on a, b, c, unknown on d; BLAS mkl on a, b, c, openblas on d."
    )


def test_many_nodes_are_counted():
    nodes = {f"n{number}": A100 for number in range(9)} | {"other": replace(A100, cpu="EPYC")}
    assert mixture(nodes).endswith("CPU EPYC on other, Xeon on n0, n1, n2 and 6 more.")


def test_an_evaluator_without_torch_is_not_described_by_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    machine = Machine.present("cpu")
    assert (machine.device, machine.torch, machine.blas) == ("CPU", "", "")
    assert machine.cpu


def test_the_description_names_the_gpu_only_if_it_is_used(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A100")
    assert [Machine.present(device).device for device in ("auto", "cuda", "cuda:1", "cpu")] == ["A100"] * 3 + ["CPU"]
    machine = Machine.present("cpu")
    assert machine.torch == torch.__version__
    assert machine.instructions
    assert Machine(**json.loads(json.dumps(machine.to_json()))) == machine


def test_workers_describe_their_machine_when_they_open():
    sent = []
    call = EvaluatorCall(evaluator=toy(), data="nothing", settings={"device": "cpu"})
    assert opened_evaluator(call, sent.append) is not None
    assert [Machine(**message["opened"]) for message in sent] == [Machine.present("cpu")]


def test_different_gpus_of_this_machine_are_reported(monkeypatch, tmp_path, jobs):
    """The names of the GPUs are simulated."""
    monkeypatch.setattr(local, "visible_gpus", lambda device: ("0", "1"))
    described = iter([A100, T4])
    monkeypatch.setattr(local, "Machine", lambda **facts: next(described))
    said = []
    call = EvaluatorCall(evaluator=toy(), data="nothing", settings={"device": "cpu", "threads": 1})
    with LocalRunner(call, workers=2, log=str(tmp_path / "log.txt"), say=said.append) as runner:
        runner.run(jobs, lambda job, outcome: None, lambda job, epoch: None, lambda job: float("inf"))
    [sentence] = said
    assert "A100 on GPU" in sentence
    assert "T4 on GPU" in sentence
    assert sentence in (tmp_path / "log.txt").read_text()
