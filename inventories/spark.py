"""Two DGX Sparks joined by a QSFP cable: edit the names, then

    pyinfra inventories/spark.py deploy.py

A name is anything that `ssh NAME` reaches. The head is rank 0 and answers the API; workers are
ranks 1, 2, … in this order, or none. docs/settings.md lists every setting that a host or a group
can have here; --data NAME=VALUE overrides it for one run.
"""

head = ["spark-1"]

workers = ["spark-2"]

# To run pyinfra on the head itself: head = ["@local"], and workers by their fabric addresses.
# A node with settings of its own: ("spark-2", {"ssh_user": "nvidia", "hf_cache": "/data/hf"}).
