#!/bin/bash
# The same as slurm.sh with `ray symmetric-run`, which starts Ray on all nodes, runs the search on the first one, and
# stops Ray. It stops each Ray process of the user on its nodes, so the nodes must be exclusive.
#SBATCH --job-name=nas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=nas-%j.log

set -eu
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Access to Ray's ports means running code as you: each process of the cluster must know the token in ~/.ray/auth_token.
umask 077
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds until all nodes have joined

again=no stopped=no
pid_file=$(mktemp)
stop() { # the search runs on the first node, as this script does
    stopped=yes
    kill -TERM "$(cat "$pid_file")" 2> /dev/null || true
}
trap 'again=yes; stop' USR1
trap stop TERM

# The store is in a folder that all nodes see, or on PostgreSQL: export NAS_STORE=postgresql://user@host/database
export NAS_STORE=${NAS_STORE:-sqlite:///$SLURM_SUBMIT_DIR/nas.db}
# shellcheck disable=SC2016 # the inner shell expands these
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus="$SLURM_CPUS_ON_NODE" -- \
    bash -c 'echo $$ > "$0"; exec "$@"' "$pid_file" \
    nas search fashion --data npz:fashion_mnist.npz --max-macs 20e6 --ray-address auto &
step=$!
status=0
wait "$step" || status=$?
if [ "$stopped" = yes ]; then # the signal ended the first wait
    status=0
    wait "$step" || status=$?
fi
if [ "$again" = yes ] && [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
