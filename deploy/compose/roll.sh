#!/bin/sh
# Makes each replica anew, one after the other: after an upgrade, a change of settings or a new key. Ends at the first that is not healthy,
# while the others go on.
set -eu
cd "$(dirname "$0")"
for replica in broker-1 broker-2 broker-3; do
  docker compose up --detach --no-deps --force-recreate --wait --wait-timeout 180 "$replica"
done
