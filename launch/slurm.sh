#!/usr/bin/env bash
# One run on a SLURM cluster: sbatch launch/slurm.sh [flags of wikigpt train], in the folder of this clone, which all nodes see.
# Sent again after its time is up, or by SLURM itself when a node has failed, it goes on from the last checkpoint. After the
# failure of a process torchrun starts all of them anew, up to three times.
#SBATCH --job-name=wikigpt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=wikigpt-%j.log
# --signal: SLURM asks three minutes before the end of its time, and the run saves and stops.
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
processes=${SLURM_GPUS_ON_NODE:-1}
torchrun=$([ -x .venv/bin/torchrun ] && echo .venv/bin/torchrun || echo torchrun)
export OMP_NUM_THREADS=1 PET_MAX_RESTARTS=${PET_MAX_RESTARTS:-3}

# One torchrun on each node, which starts one process for each of its cards; SLURM_NODEID is known on the node only.
exec srun --kill-on-bad-exit=1 bash -c "exec $torchrun --nnodes=$SLURM_NNODES --node_rank=\$SLURM_NODEID \
  --master_addr=$first --master_port=${PORT:-29500} --nproc_per_node=$processes --shutdown_timeout=${SHUTDOWN:-150} \
  -m wikigpt train \"\$@\"" train "$@"
