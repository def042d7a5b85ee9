"""`python -m spark_bench`."""

from spark_bench.cli import main

main(prog_name="spark-bench")
