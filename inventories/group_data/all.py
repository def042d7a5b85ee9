"""Every setting, its default, and what it means. --data NAME=VALUE overrides for one run.

"auto" is decided by the model, the image's SGLang version or the number of nodes, as said.
"""

from transport import nodelay

# ---- what is served

# Alias or number (see README), a Hugging Face id (of the catalogue or not), or an absolute path
# on the nodes.
model = "gpt-oss-120b"
# The id in /v1/models; "" is the Hugging Face id.
served_model_name = ""
# Commit, branch or tag of the model's repository. "": what the nodes have, else the newest at the
# first download.
revision = ""
# running; stopped: containers stay; absent: they go. Weights stay in every case.
state = "running"
# A group that does not get ready is replaced by the one that served before it.
rollback = True
# Serve from the head alone: one node, tensor_parallel 1. The workers' ranks go.
head_only = False
# GPUs that a layer is split over. auto: the number of nodes / pipeline_parallel.
tensor_parallel = "auto"
# Groups of layers, one after the other. tensor_parallel x pipeline_parallel must divide over the
# nodes.
pipeline_parallel = 1
# SGLang's share of memory for weights and KV cache. auto: the model's (0.80 or 0.85). The seed had
# 0.90, which runs out on a Spark: memory is shared with the system, and running out freezes it.
mem_fraction = "auto"
# Tokens of one request, prompt and answer. auto: the model's own.
context_length = "auto"
# SGLang's parser of thoughts, by name. auto: the model's; none: no parser.
reasoning_parser = "auto"
# SGLang's parser of tool calls, likewise.
tool_call_parser = "auto"
# Run code of the model's repository. auto: the model's.
trust_remote_code = "auto"
# auto: as the seed, without CUDA graphs, unless the catalogue knows better. Graphs about double
# the speed of one stream where they work: try false.
disable_cuda_graph = "auto"
# Keeps FlashInfer's fused all-reduce off, which fails over two nodes in some SGLang versions. auto:
# for gpt-oss on those versions. (With dp-size 1 it brings no attention DP at all.)
enable_dp_attention = "auto"
# /metrics on the API port.
enable_metrics = True
# Further words for SGLang, checked against the options of its version; they win over ours, but for
# what the plan goes by (port, tensor_parallel …), which has its own setting. What its version wants
# beside an option is added, or refused (cluster/engine/pairs.toml).
extra_args: list[str] = []

# ---- how a rank runs

# The name of this group of ranks. Ranks of other groups on the same nodes are left alone: a second
# group wants names and ports of its own.
group = "sglang"
# docker: SGLang in a container; process: the embedded engine, for inventories/local.py.
runtime = "docker"
# Its reference: repository:tag, or repository@sha256:….
image = "lmsysorg/sglang:spark"
# SGLang's version in the image decides the spelling of its flags. auto: the image is asked.
sglang_version = "auto"
# never: refuse where the image is missing; missing: pull it then; always: at each run.
pull = "missing"
# As docker's --gpus: all, a number, device=ID; none: without (a CPU image). CDI devices by name:
# nvidia.com/gpu=all; they are also what the others mean where Docker has no NVIDIA runtime.
gpus = "all"
# private or shareable: /dev/shm of shm_size. host: systemd's logind removes its semaphores when
# the SSH session ends (RemoveIPC), which hangs SGLang hours later; shm_size then has no effect.
ipc = "private"
# Of a rank's own /dev/shm: a number with b, k, m or g.
shm_size = "32g"
# The name of rank 0's container.
head_container = "sglang-head"
# Worker N is called worker_container-N.
worker_container = "sglang-worker"
# Set once the group is ready, taken away before every wanted stop.
restart_policy = "unless-stopped"
# Further mounts, "/source:/target[:ro]".
volumes: list[str] = []
# Further environment of the container, merged: all < group < host < --data 'env={"A": "1"}'.
# What it says of the fabric is checked, and told with the setting for it. No place for secrets.
env: dict[str, str] = {}

# ---- where it listens, and how the ranks meet

# IPv4 address of the API. Over several nodes it must be 0.0.0.0: every rank answers its head.
host = "0.0.0.0"
# Port of the API, and of the other ranks' /health.
port = 30000
# Rank 0 listens here on its fabric address for the others (--dist-init-addr). All further TCP
# between the nodes' fabric addresses must be open too: SGLang and NCCL take random ports.
dist_port = 50000
# Seconds for the ranks to meet. auto: SGLang's own.
dist_timeout = "auto"
# A node's fabric address. "" is chosen: cabled port, IPv4, common subnet.
address = ""
# auto or on: RDMA over the cabled QSFP port; off: TCP (10-20 times slower).
rdma = "auto"
# Both halves of the cabled port carry traffic only in different subnets. auto: both then, one
# otherwise; both: always; first: one.
twins = "auto"
# HCAs as NCCL_IB_HCA has them: comma between, beginnings of names unless "=" stands before them,
# "^" for all others. "" is chosen. NCCL_IB_GID_INDEX is never set (the index drifts), nor
# NCCL_NET_GDR_LEVEL (a Spark has no GPUDirect RDMA: the seed's 5 did nothing).
nccl_ib_hca = ""
# NCCL_SOCKET_IFNAME, the interface that NCCL's ranks meet over, likewise. "" is chosen.
nccl_socket_ifname = ""
# GLOO_SOCKET_IFNAME: whole names. "" is chosen.
gloo_socket_ifname = ""
# INFO lets the deploy read the transport from the log.
nccl_debug = "INFO"

# ---- what a node keeps

# HF_HOME on the node; must exist and be writable for the login. The engine sees hub/, read-only.
hf_cache = "/raid/hf-cache"
# The hub, or a mirror of it, which then gets the token too (https alone). "": huggingface.co.
hf_endpoint = ""
# A 0600 file on the controller. "": HF_TOKEN of its environment, else what `hf auth login` left.
# Never put the token itself here.
hf_token_file = ""
# Clients of the API must show the key in this 0600 file on the controller. "": everybody may ask.
api_key_file = ""
# Never ask the hub: what the nodes lack is then refused.
offline = False
# Files of the weights whose size and time did not change are taken for whole. full: every file is
# read and hashed again, on every node.
verify = "changed"
# gpt-oss reads its vocabularies here; each is checked by hash.
tiktoken_dir = "~/tiktoken_encodings"
# A URL that has them, asked by the head alone, or a folder on the controller (no internet).
tiktoken_source = "https://openaipublic.blob.core.windows.net/encodings"

# ---- how long we wait, seconds

# Until a group that was started is ready. auto: 600 for several nodes, 300 for one.
ready_timeout = "auto"
# A download of weights without a byte for this long has failed.
download_stall_timeout = 300
# An image pull may take this long.
pull_timeout = 7200
# Until a rank that does not end by itself is killed.
stop_timeout = 30

# ---- how a node itself is set up, by deploys of their own

# deploys/firewall.py: present: ufw with our rules; absent: our rules go.
firewall = "present"
# Networks that may reach the API through it; none: only the nodes themselves.
api_networks: list[str] = []
# deploys/network.py: one IPv4 network for each half of the cabled port; rank N has address N + 1.
fabric_networks = ["192.168.100.0/24", "192.168.101.0/24"]
# MTU of both halves: jumbo frames, for RDMA's 4096-byte packets.
fabric_mtu = 9000
# deploys/host.py: the login's processes, and semaphores of ipc = host, survive its SSH session.
linger = False
# deploys/host.py: earlyoom ends a process before memory runs out, which freezes a Spark.
earlyoom = False
# Before a load: drop the page cache, which the GPU's allocator does not reclaim.
drop_caches = False

# ---- SSH

# A node whose host key is not known is refused: tokens and keys are sent to it. pyinfra's own
# default (accept-new) takes the key of a new node without a word.
ssh_strict_host_key_checking = "yes"
# Without Nagle's algorithm: paramiko leaves it on, which costs ~40 ms a command.
ssh_paramiko_connect_kwargs = {"transport_factory": nodelay}
