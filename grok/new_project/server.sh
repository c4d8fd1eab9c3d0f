#!/bin/bash
# One MongoDB with a password for all nodes, and the server of sweeps, as a job:
#
#     sbatch server.sh
#
# `grok` in this folder then uses both, on every node. Their addresses and secrets are in .grok, in
# files that only you can read.
#SBATCH --job-name=grok-server
#SBATCH --cpus-per-task=2
#SBATCH --time=7-00:00:00
#SBATCH --signal=B:TERM@60
exec grok store serve --host 0.0.0.0 grok sweep serve --host 0.0.0.0
