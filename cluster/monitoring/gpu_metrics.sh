# shellcheck shell=sh
# gpu_metrics.sh FOLDER: what nvidia-smi says of the GPUs, for node_exporter's textfile collector.
# A value that the GPU does not have ("[N/A]", "[Not Supported]") is left out: a GB10's framebuffer
# memory is none. Where nvidia-smi fails no old figures stay behind.
set -u
into=$1/gpu.prom
fields=index,utilization.gpu,power.draw,temperature.gpu,clocks.sm,clocks.max.sm
rows=$(timeout 8 nvidia-smi --query-gpu=$fields --format=csv,noheader,nounits) || {
  rm -f "$into"
  printf 'nvidia-smi failed: %.200s\n' "$rows" >&2
  exit 1
}
printf '%s\n' "$rows" | LC_ALL=C awk -F ', *' -v now="$(date +%s)" '
  function add(name, value, scale) {
    if (value ~ /^[0-9]+(\.[0-9]+)?$/)
      samples[name] = samples[name] sprintf("%s{gpu=\"%d\"} %.10g\n", name, $1, value * scale)
  }
  $1 ~ /^[0-9]+$/ && NF == 6 {
    gpus++
    add("spark_gpu_utilization_ratio", $2, 0.01)
    add("spark_gpu_power_watts", $3, 1)
    add("spark_gpu_temperature_celsius", $4, 1)
    add("spark_gpu_sm_clock_hertz", $5, 1000000)
    add("spark_gpu_sm_clock_max_hertz", $6, 1000000)
  }
  END {
    for (name in samples) printf "# TYPE %s gauge\n%s", name, samples[name]
    if (gpus) printf "# TYPE spark_gpu_samples_timestamp_seconds gauge\n"
    if (gpus) printf "spark_gpu_samples_timestamp_seconds %d\n", now
  }' >"$into.part" && chmod 644 "$into.part" && mv "$into.part" "$into"
