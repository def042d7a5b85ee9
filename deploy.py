"""Converge every node to the declared state.

pyinfra inventories/spark.py deploy.py [--data model=qwen72b]
"""

from pyinfra import host

from deploys import image, keys
from deploys import weights as weights_of
from deploys.converge import again, deployment
from deploys.secrets import find_api_key
from deploys.switching import switch
from operations import containers, images, secrets, serving, vocabularies, weights

# check: settings, facts, plan and every refusal, for the whole cluster at once
run = deployment(host)
settings = run.settings_of(host)

# The head's operations work on all nodes of the group.
if run.running and run.is_head(host):
    if settings.runtime == "docker":
        # image
        images.delivered(name=f"Image {settings.image}", order=image.order(run), needed=run.pulls)

        # weights
        vocabularies.placed(name="tiktoken vocabularies", order=weights_of.vocabularies(run))
        weights.present(
            name=f"Weights of {run.model.id}",
            job=lambda: weights_of.job(run),
            needed=weights_of.needed(run),
        )
        serving.checked(
            name="Check again, with what has come", again=lambda: again(run), needed=run.fetches
        )

    # API key
    if settings.api_key_file:
        secrets.placed(
            name="API key",
            find=lambda: find_api_key(settings.api_key_file),
            group=settings.group,
            image=settings.image,
            needed=lambda: keys.needed(run, host),
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

if keys.left(run, host):
    secrets.removed(name="API key gone", group=settings.group, image=settings.image)
