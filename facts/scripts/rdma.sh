# shellcheck shell=sh disable=SC2086
# Shell builtins alone: a GID table has 256 entries a port, and reading an empty one is an error.
for hca in /sys/class/infiniband/*; do
  cd "$hca/ports/1" 2>/dev/null || continue
  echo "hca ${hca##*/}"
  for f in state phys_state rate link_layer; do read -r v <$f && echo "$f $v"; done
  for t in gid_attrs/types/*; do
    i=${t##*/}
    { read -r v <$t && [ "$v" = "RoCE v2" ] && read -r v <gids/$i; } 2>/dev/null && echo "gid $i $v"
  done
  { read -r v <gid_attrs/ndevs/0; } 2>/dev/null && echo "ndev $v"
  cd -P "$hca/device" 2>/dev/null || continue
  echo "pci ${PWD##*/}"
  for n in net/*; do [ ! -e "$n" ] || echo "netdev ${n##*/}"; done
done
