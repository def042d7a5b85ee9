"""This machine alone: a real, small model, served by llama.cpp as a plain process.

It needs no root, Docker or GPU, and nothing from a hub: the weights come inside a Python package.

    pyinfra -y inventories/local.py deploy.py
"""

head = [
    (
        "@local",
        {
            "runtime": "process",
            "model": "smollm2",
            "host": "127.0.0.1",
        },
    )
]
