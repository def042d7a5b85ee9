# shellcheck shell=sh
# $1 runtime, $2 the rank's name, $3 how many lines ("all"), $4 "follow" or "", $5 since when.
# A rank that ends, and comes back as another life or another container, is followed again. The
# loop ends with its stdin: when this side closes it, is killed, or loses the connection.
runtime=$1 name=$2 lines=$3 follow=$4 since=$5
echo "spark-serving clock $(date +%s%N)"
report() { [ "$*" = "$reported" ] || echo "! $*"; reported=$*; }
life() {
  timeout 10 docker inspect --type=container     --format '{{.Id}} {{.State.StartedAt}} {{.State.Status}}' "$name" 2>&1
}
docker_lives() {
  past=
  while :; do
    now=$(life); code=$?
    if [ $code = 124 ]; then report 'Docker does not respond'; sleep 1; continue; fi
    if [ $code != 0 ]; then report "$now"; sleep 1; continue; fi
    status=${now##* }; now=${now% *}
    if [ "$now" = "$past" ] && [ "$status" != running ]; then
      report "$name is $status"; sleep 0.5; continue
    fi
    if [ -n "$since" ]; then set -- --since "$since"
    elif [ "$now" = "$past" ]; then set -- --since "$ended"
    elif [ -n "$past" ]; then set -- --since "${now#* }"; report "$name is there again"
    else set -- --tail "$lines"; fi
    past=$now since=
    docker logs --timestamps --follow "$@" "$name" 2>&1
    ended=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
  done
}
log="$HOME/.local/state/spark-serving/$name.log"; [ "$lines" != all ] || lines=+1
case $runtime$follow in
  docker) [ "$lines" != +1 ] || lines=all
          timeout 60 docker logs --timestamps --tail "$lines" "$name" 2>&1; exit;;
  process) tail -n "$lines" "$log"; exit;;
  dockerfollow) [ "$lines" != +1 ] || lines=all; docker_lives & ;;
  processfollow) tail -n "$lines" -F "$log" 2>/dev/null & ;;
esac
trap 'trap "" TERM; kill -TERM 0' EXIT
trap 'exit 0' HUP INT TERM
cat >/dev/null
