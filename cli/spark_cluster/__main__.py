"""`python -m spark_cluster`."""

from spark_cluster.main import main

main(prog_name="spark-cluster")
