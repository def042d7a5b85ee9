"""Two DGX Sparks joined by a QSFP cable: edit the names, then

    pyinfra inventories/spark.py deploy.py

A name is anything that `ssh NAME` reaches. The head is rank 0 and answers the API; workers are
ranks 1, 2, … in this order (none is fine too). What any host or group sets here wins over
group_data/all.py, where every setting stands with its meaning; --data k=v wins over both.
"""

head = ["spark-1"]

workers = ["spark-2"]

# From the head itself: head = ["@local"], workers by their fabric addresses.
# One node's own settings: ("spark-2", {"ssh_user": "nvidia", "hf_cache": "/data/hf-cache"}).
