# shellcheck shell=sh
# rank_metrics.sh FOLDER CONTAINER SECONDS FIRST: whether the node's rank is meant to serve, for
# node_exporter's textfile collector. A deploy sets Docker's restart policy once the group serves,
# and clears it before it stops anything. A rank may load for SECONDS, without a policy for FIRST:
# it has not served yet. Where Docker does not answer no old figures stay behind.
set -u
into=$1/rank.prom
format='{{.State.Running}} {{.State.StartedAt}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}'
words=$1/docker.words
state=$(timeout 5 docker inspect --type=container --format "$format" "$2" 2>"$words") ||
  if grep -q 'o such container' "$words"; then
    state='false 0001-01-01T00:00:00Z 0 no'
  else
    rm -f "$into"; printf 'docker inspect failed: %.200s\n' "$(cat "$words")" >&2; exit 1
  fi
limit=$3 first=$4
read -r runs started restarts policy <<E
$state
E
started=$(date -d "$started" +%s) || exit
expected=1
case $policy in no | '') expected=0 limit=$first ;; esac
case $runs in true) runs=1 ;; *) runs=0 ;; esac
while read -r name value; do
  printf '# TYPE spark_rank_%s gauge\nspark_rank_%s %d\n' "$name" "$name" "$value"
done >"$into.part" <<E && chmod 644 "$into.part" && mv "$into.part" "$into"
expected $expected
running $runs
restarts $restarts
started_timestamp_seconds $started
load_limit_seconds $limit
samples_timestamp_seconds $(date +%s)
E
