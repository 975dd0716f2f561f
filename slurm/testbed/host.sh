#!/bin/bash
# The first process of a host of the testbed: it sets mounts and host name, then waits, as the parent of orphans.
# Killing it kills everything on the host, as a power cut does.
# host.sh NAME STATE OUTER SHARED...
set -e
name=$1 state=$2
shift 2
hostname "$name"
mount --bind "$state/etc/hosts" /etc/hosts
mount --bind "$state/etc/slurm" /etc/slurm
mkdir -p /run/munge 2>/dev/null || true
mount -t tmpfs -o mode=755,size=1m tmpfs /run/munge
mount --bind "$state/munge" /run/munge
if [ "$name" != ctl ]; then
    # Shared folders under /tmp stay reachable through `outer`.
    mkdir -p "$state/hosts/$name/outer"
    mount --rbind /tmp "$state/hosts/$name/outer"
    mount -t tmpfs -o size=4g,mode=1777 tmpfs /tmp
    mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm
fi
touch "$state/hosts/$name/ready"
trap : TERM INT HUP
while :; do
    sleep 3600 &
    wait $!
done
