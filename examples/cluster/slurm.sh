#!/bin/bash
# A search on the nodes of a SLURM job: `sbatch slurm.sh`. The same command continues the study.
#
# Five minutes before the time limit, SLURM sends USR1 to this script: the search stops cleanly, and the job returns to the
# queue. `scancel --batch --signal=TERM JOB` stops the search cleanly and ends the job.
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
port=6379
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Access to Ray's ports means running code as you: each process of the cluster must know the token in ~/.ray/auth_token.
umask 077
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null

start=(ray start --block --num-cpus="$SLURM_CPUS_ON_NODE" --disable-usage-stats)
srun --nodes=1 --ntasks=1 --nodelist="$head" "${start[@]}" \
    --head --node-ip-address="$head" --port="$port" --include-dashboard=false &
timeout 300 bash -c "until (: < /dev/tcp/$head/$port) 2> /dev/null; do sleep 1; done"
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" "${start[@]}" --address="$head:$port" &
fi

again=no stopped=no
stop() {
    stopped=yes
    kill -TERM "$driver" 2> /dev/null || true
}
trap 'again=yes; stop' USR1
trap stop TERM

# The store is in a folder that all nodes see, or on PostgreSQL: export NAS_STORE=postgresql://user@host/database
export NAS_STORE=${NAS_STORE:-sqlite:///$SLURM_SUBMIT_DIR/nas.db}
nas search fashion --data npz:fashion_mnist.npz --max-macs 20e6 --ray-address "$head:$port" &
driver=$!
status=0
wait "$driver" || status=$?
if [ "$stopped" = yes ]; then # the signal ended the first wait
    status=0
    wait "$driver" || status=$?
fi
if [ "$again" = yes ] && [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
