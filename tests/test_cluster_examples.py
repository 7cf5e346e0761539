"""The files of examples/cluster: fields, options and syntax are valid, and the scripts for SLURM handle its signals."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
import yaml

from .pages import COMMANDS, unknown_options

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
SLURM = [script for script in SCRIPTS if script.name.startswith("slurm")]


def fields(**values):
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": values, "additionalProperties": False}


TEXT, WHOLE, FLAG, ANY = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POD = fields(metadata=fields(labels=TEXTS), spec=fields(containers={"type": "array"}, volumes={"type": "array"}))
HEAD = fields(rayStartParams=TEXTS, template=POD, serviceType=TEXT, enableIngress=FLAG)
GROUP = fields(groupName=TEXT, replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE, rayStartParams=TEXTS, template=POD)
GROUP["required"] = ["groupName", "minReplicas", "maxReplicas", "template"]
CLUSTER = fields(
    rayVersion=TEXT,
    authOptions=fields(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions={"type": "object"},
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": GROUP},
)
RAY_JOB = fields(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields(name=TEXT),
    spec=fields(
        entrypoint=TEXT,
        runtimeEnvYAML=TEXT,
        backoffLimit=WHOLE,
        activeDeadlineSeconds=WHOLE,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=WHOLE,
        submissionMode=TEXT,
        suspend=FLAG,
        rayClusterSpec=CLUSTER,
    ),
)
"""The fields of RayJob v1 that a search may need, from KubeRay's definition of the resource."""


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text(encoding="utf-8")))


def test_the_job_of_kuberay_has_the_fields_of_ray_job_v1(documents):
    jsonschema.validate(documents[0], RAY_JOB)
    assert yaml.safe_load(documents[0]["spec"]["runtimeEnvYAML"])["env_vars"]


def test_a_lost_head_is_replaced_and_the_same_command_runs_again(documents):
    assert documents[0]["spec"]["backoffLimit"] > 0


def test_all_pods_of_the_job_are_behind_the_network_policy(documents):
    job, policy = documents
    cluster = job["spec"]["rayClusterSpec"]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"].items() >= selected.items()
    assert policy["spec"]["ingress"][0]["from"] == [{"podSelector": {"matchLabels": selected}}]
    assert cluster["authOptions"] == {"mode": "token"}


def test_the_cluster_has_the_version_of_ray_that_is_installed(documents):
    constraints = (FOLDER.parent.parent / "constraints.txt").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ray==(\S+)$", constraints, flags=re.MULTILINE)
    assert documents[0]["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"rayproject/ray:{version}-" in (FOLDER / "Dockerfile").read_text(encoding="utf-8")


def searches(path):
    """The commands ``nas search`` of a file, without line breaks."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"nas search .*?(?= &$|$)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", [*SCRIPTS, FOLDER / "kuberay.yaml"], ids=lambda path: path.name)
def test_the_options_of_the_search_exist(path):
    (line,) = searches(path)
    assert not unknown_options(line)
    COMMANDS["search"].make_context("search", shlex.split(line)[2:])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid(script):
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)


FAKES = {
    "scontrol": 'if [ "$1" = requeue ]; then echo "$2" > "$FAKE/requeued"; else echo here; fi',
    "srun": """
        while [ "${1#--}" != "$1" ]; do shift; done
        [ "$2" = symmetric-run ] || exec sleep 60
        while [ "$1" != -- ]; do shift; done
        shift
        "$@"
    """,
    "ray": "",
    "timeout": "",
    "nas": """
        trap 'exit 143' TERM
        echo "$@" > "$FAKE/arguments"
        case $FAKE_NAS in ends) exit 0;; fails) exit 2;; esac
        for i in $(seq 600); do sleep 0.1; done
    """,
}
"""Commands of a SLURM cluster, and a search that ends, fails or runs until it is stopped."""


def start(script, folder, behaviour):
    for name, body in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o700)
    variables = {
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "2",
        "SLURM_JOB_ID": "77",
        "SLURM_SUBMIT_DIR": str(folder),
        "FAKE": str(folder),
        "FAKE_NAS": behaviour,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.Popen(["bash", script], env=os.environ | variables, cwd=folder, start_new_session=True)


@pytest.fixture
def run(tmp_path):
    """Run a script, with a signal to it when the search runs; returns its status and the job that it requeues."""
    started = []

    def run(script, behaviour, number=None):
        process = start(script, tmp_path, behaviour)
        started.append(process)
        if number is not None:
            while not (tmp_path / "arguments").exists():
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(number)
        status = process.wait()
        requeued = tmp_path / "requeued"
        return status, requeued.read_text().strip() if requeued.exists() else None

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("script", SLURM, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("behaviour", "number", "expected"),
    [
        ("ends", None, (0, None)),
        ("fails", None, (2, None)),
        ("runs", signal.SIGUSR1, (143, "77")),
        ("runs", signal.SIGTERM, (143, None)),
    ],
)
def test_a_search_that_slurm_stops_is_queued_again(run, script, behaviour, number, expected):
    """Before the time limit, SLURM sends USR1; a user who ends the job sends TERM."""
    assert run(script, behaviour, number) == expected
