# shellcheck shell=sh
# watch.sh GROUP LABEL SECONDS [QUERY…]: what watches a group on this node: its label, its alerts,
# and the last ten minutes of each query. Prints nothing where nothing does.
group=$1 label=$2 seconds=$3; shift 3
part() {
  docker inspect --type=container --format "{{.State.Status}} {{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null
}
prometheus=$(part "$group-prometheus") || exit 0
printf 'prometheus %s\n' "$prometheus"
alertmanager=$(part "$group-alertmanager") && printf 'alertmanager %s\n' "$alertmanager"
grafana=$(part "$group-grafana") && printf 'grafana %s\n' "$grafana"
at=$(printf %s "$prometheus" | sed -n 's/.*"at":"\([0-9.]*:[0-9]*\)".*/\1/p')
[ -n "$at" ] || exit 0
ask() { curl -s --noproxy '*' -m "$seconds" "$@" | head -c 1000000 | tr -d '\n'; }
printf 'alerts %s\n' "$(ask "http://$at/api/v1/alerts")"
now=$(date +%s)
for query; do
  printf 'history %s\n' "$(ask -G "http://$at/api/v1/query_range" --data-urlencode "query=$query" \
    -d "start=$((now - 600))" -d "end=$now" -d step=20)"
done
