#!/bin/bash
# Agents of a W&B sweep as an array job:
#
#     sbatch slurm.sh ENTITY/PROJECT/SWEEP
#
# `grok sweep submit sweeps/parity_cpu.yaml --agents 4` creates the sweep and such a job in one step.
#SBATCH --job-name=grok
#SBATCH --array=0-3
#SBATCH --cpus-per-task=2
#SBATCH --time=01:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
exec grok sweep agent "$1"
