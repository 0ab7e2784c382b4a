#!/usr/bin/env bash
# Starts a MongoDB for the tests, in containers on this machine's network.
#
#   .github/mongodb.sh replicaset 8.0     mongodb://127.0.0.1:27017/?replicaSet=rs0
#   .github/mongodb.sh sharded 8.0        mongodb://127.0.0.1:27017/, two shards
set -euo pipefail
kind=$1 version=$2

# shell NAME PORT SCRIPT: older images have no mongosh.
shell() {
  docker exec "$1" sh -c '"$(command -v mongosh || command -v mongo)" --quiet --port "$1" --eval "$2"' shell "$2" "$3"
}

# start NAME PORT PROGRAM ARGUMENTS...: returns when the server answers.
start() {
  local name=$1 port=$2
  docker run --detach --network host --name "$name" "mongo:$version" "${@:3}" --port "$port" --bind_ip 127.0.0.1
  for _ in $(seq 60); do
    shell "$name" "$port" 'db.adminCommand("ping").ok' && return
    sleep 1
  done
  docker logs --tail 50 "$name" >&2
  return 1
}

# member NAME PORT SET ARGUMENTS...: a replica set of one.
member() {
  local name=$1 port=$2 set=$3
  start "$name" "$port" mongod --replSet "$set" "${@:4}"
  shell "$name" "$port" "rs.initiate({_id: '$set', members: [{_id: 0, host: '127.0.0.1:$port'}]})"
  for _ in $(seq 60); do
    [[ $(shell "$name" "$port" 'db.adminCommand("isMaster").ismaster') == *true* ]] && return
    sleep 1
  done
  return 1
}

case $kind in
  replicaset)
    member mongo 27017 rs0
    ;;
  sharded)
    # A quiet shard lets events through once a second, in the place of every 10 s.
    member config 27019 config --configsvr
    member shard-a 27018 a --shardsvr --setParameter periodicNoopIntervalSecs=1
    member shard-b 27020 b --shardsvr --setParameter periodicNoopIntervalSecs=1
    start mongos 27017 mongos --configdb config/127.0.0.1:27019
    shell mongos 27017 'sh.addShard("a/127.0.0.1:27018"); sh.addShard("b/127.0.0.1:27020")'
    ;;
  *)
    echo "replicaset or sharded, not $kind" >&2
    exit 2
    ;;
esac
