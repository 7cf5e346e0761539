#!/bin/bash
# Submit a search to a running Ray cluster, from any machine with Ray: `./submit.sh http://HEAD:8265`. The same command
# continues the study. Ctrl-C ends only the display; `ray job stop ID --address …` stops the search cleanly.
#
# This folder is sent to the cluster, with plug-ins and small data, and the search runs in a copy that is removed with the
# cluster. So store and files must have addresses of their own, that the head can reach.
set -eu
address=${1:?Name the dashboard of the cluster: $0 http://HEAD:8265}
store=${NAS_STORE:?Name the store: export NAS_STORE=postgresql://user@host/database}
files=${NAS_FILES:?Name a place for weights and checkpoints: export NAS_FILES=s3://bucket/folder}

# The search has 60 s to stop; Ray's default is 3 s.
exec ray job submit --address "$address" --working-dir . \
    --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}' -- \
    nas search fashion --data npz:fashion_mnist.npz --max-macs 20e6 --ray --store "$store" --files "$files"
