"""Converge every node to the declared state.

pyinfra inventories/spark.py deploy.py [--data model=qwen72b]
"""

from pyinfra import host

from control import converge, steps
from control.secrets import find_api_key
from operations import images, secrets, switch, vocabularies, weights

# check: settings, facts, plan and every refusal, for the whole cluster at once
deployment = converge.current_deployment(host)
settings = deployment.settings_of(host)

# The head's operations work on all nodes of the group.
if deployment.running and deployment.is_head(host):
    if settings.runtime == "docker":
        # image
        images.delivered(
            name=f"Image {settings.image}",
            order=steps.image_order(deployment),
            needed=deployment.pulls,
        )

        # weights
        vocabularies.vocabularies_present(
            name="tiktoken vocabularies", order=steps.vocabularies_job(deployment)
        )
        weights.present(
            name=f"Weights of {' and '.join(r.id for r in deployment.decision.repositories)}",
            jobs=lambda: steps.weights_jobs(deployment),
            needed=steps.weights_needed(deployment),
        )
        switch.plan_checked(
            name="Check again with the new image and weights",
            again=lambda: converge.redecide(deployment),
            needed=deployment.fetches,
        )

    # API key
    if settings.api_key_file:
        secrets.key_placed(
            name="API key",
            find=lambda: find_api_key(settings.api_key_file),
            group=settings.group,
            image=settings.image,
            needed=lambda: steps.key_needed(deployment, host),
        )

# containers: created, started and verified (else the group before them serves again), or stopped
if deployment.is_lead(host):
    goal = (
        f"{deployment.model_name} is served"
        if deployment.running
        else f"No rank runs ({settings.state})"
    )
    switch.containers_switched(name=goal, switch=lambda: steps.build_switch(deployment))

if steps.key_left(deployment, host):
    secrets.key_removed(name="Remove the API key", group=settings.group, image=settings.image)
