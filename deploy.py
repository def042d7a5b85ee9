"""Converge every node to the declared state.

pyinfra inventories/spark.py deploy.py [--data model=qwen72b]
"""

from pyinfra import host

from control import transfers
from control.converge import again, deployment
from control.secrets import find_api_key, key_left, key_needed
from control.switching import switch
from operations import containers, images, secrets, serving, vocabularies, weights

# check: settings, facts, plan and every refusal, for the whole cluster at once
run = deployment(host)
settings = run.settings_of(host)

# The head's operations work on all nodes of the group.
if run.running and run.is_head(host):
    if settings.runtime == "docker":
        # image
        images.delivered(
            name=f"Image {settings.image}", order=transfers.image_order(run), needed=run.pulls
        )

        # weights
        vocabularies.vocabularies_present(
            name="tiktoken vocabularies", order=transfers.vocabularies_job(run)
        )
        weights.present(
            name=f"Weights of {run.model.id}",
            job=lambda: transfers.weights_job(run),
            needed=transfers.weights_needed(run),
        )
        serving.checked(
            name="Check again, with what has come", again=lambda: again(run), needed=run.fetches
        )

    # API key
    if settings.api_key_file:
        secrets.key_placed(
            name="API key",
            find=lambda: find_api_key(settings.api_key_file),
            group=settings.group,
            image=settings.image,
            needed=lambda: key_needed(run, host),
        )

    # engine, ready, verify: the wanted group, or the one before it
    serving.switched(name=f"{run.model_name} is served", switch=lambda: switch(run))

# no engine
if not run.running:
    ranks = containers.Ranks(lambda: run.plan, run.runtime, host.name)
    seconds = settings.stop_timeout
    within = seconds + 150
    containers.released(name="Restart policies off", ranks=ranks, _timeout=within)
    containers.stopped(name="Stop rank 0", ranks=ranks, seconds=seconds, head=True, _timeout=within)
    containers.stopped(
        name="Stop the other ranks", ranks=ranks, seconds=seconds, head=False, _timeout=within
    )
    containers.removed(name="Remove the ranks", ranks=ranks, _timeout=within)

if key_left(run, host):
    secrets.key_removed(name="API key gone", group=settings.group, image=settings.image)
