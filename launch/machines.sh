#!/usr/bin/env bash
# One run on several machines. On each of them, in the folder of this clone, with the same data in dataset/:
#
#   launch/machines.sh ADDRESS MACHINES NUMBER [flags of wikigpt train]
#
# ADDRESS is the first machine's, by which the others reach it; MACHINES how many there are; NUMBER which this one is,
# from 0. On two machines: `launch/machines.sh 10.0.0.1 2 0 --data pt` on the first, `... 2 1 --data pt` on the other.
# The run's folder is written on the first alone. PROCESSES (of this machine; one per card), PORT, SHUTDOWN (seconds to save
# in when asked to stop) and TORCHRUN may be set, and what torchrun reads itself: PET_MAX_RESTARTS=3.
set -euo pipefail

if [ $# -lt 3 ]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
address=$1 machines=$2 number=$3
shift 3

# Without this, processes on a CPU offer each other the address that their host's name has, which is often a loopback one.
if command -v ip > /dev/null; then
  device=$(ip -o addr show to "$address" 2> /dev/null | awk '{print $2; exit}' || true)   # the first machine's own
  [ -n "$device" ] || device=$(ip -o route get "$address" 2> /dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' || true)
  if [ -n "$device" ]; then   # the way there, unless ADDRESS is a name
    export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$device} NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$device}
  fi
fi

cards=$( (nvidia-smi --list-gpus 2> /dev/null || true) | wc -l)
torchrun=${TORCHRUN:-torchrun}
[ -x .venv/bin/torchrun ] && torchrun=${TORCHRUN:-.venv/bin/torchrun}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}   # or torchrun says that it sets it; train takes the threads that there are

exec "$torchrun" --nnodes="$machines" --node_rank="$number" --master_addr="$address" --master_port="${PORT:-29500}" \
  --nproc_per_node="${PROCESSES:-$((cards > 0 ? cards : 1))}" --shutdown_timeout="${SHUTDOWN:-120}" -m wikigpt train "$@"
