"""Plan a suite: what is deployed and measured, in which order; what is skipped, and why."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from spark_bench import project, secret
from spark_bench.errors import BadInput, BenchError
from spark_bench.load.profile import Profile
from spark_bench.options import FailureLimit
from spark_bench.project import ProjectListing, ProjectModel
from spark_bench.results.suite_results import SuiteQuality
from spark_bench.suite.variants import Settings, variant_label

FEASIBLE = "deploys/feasible.py"
VERSION = 1
# Cases per question to the project: Linux limits an argument to 128 KiB (MAX_ARG_STRLEN).
AT_ONCE = 200
# File names have at most 255 bytes, and a suffix follows.
LONGEST_NAME = 150
NO_TOKEN = (
    "it is gated, and there is no Hugging Face token here: accept its license at the hub, then: "
    "hf auth login, or export HF_TOKEN=…; if its weights are on the nodes already, use "
    "--no-skip-token"
)

TO_CHOOSE = ": name the model with --models, or its variant with --vary, to measure it"


class SuiteOptions(Struct, frozen=True, kw_only=True):
    """What `spark-bench all` was asked to do. Each field is valid by itself; times are in seconds.

    models: names as typed; empty: the whole catalog
    nodes: "": as the inventory says; "one": only the head; "all": every node
    skip_token: skip gated models; None: only if there is no token; False: try them all
    variants: sets of settings besides the model, to be deployed in turn; never empty
    profile: with the overrides applied
    overrides: fields of the profile that were given explicitly
    quality: the scores of each model; None: only speed is measured
    resume: folder of the suite to resume; None: a new suite
    folder: where the files go
    typed: the options that determine what is measured, as typed
    """

    project: Path
    inventory: Path
    models: tuple[str, ...] = ()
    nodes: str = ""
    skip_token: bool | None = None
    variants: tuple[Settings, ...] = ({},)
    profile: Profile
    profiles: tuple[Path, ...] = ()
    overrides: dict[str, Any] = {}
    repeat: int = 1
    keep_going: bool = True
    restore: bool = True
    startup_timeout: float = 900.0
    bench_timeout: float = 600.0
    quality: SuiteQuality | None = None
    quality_timeout: float = 1800.0
    max_failures: FailureLimit = FailureLimit()
    api_key: secret.Secret | None = None
    api_key_file: Path | None = None
    resume: Path | None = None
    folder: Path
    typed: dict[str, Any] = {}


class Case(Struct, frozen=True, kw_only=True):
    """One model with one variant's settings: deployed, measured, a row of the results.

    name: unique, and usable in a file's name
    model: id on the hub
    short: what people call the model
    variant: the variant's settings as text, and the model's variant if it isn't the default
    chosen: somebody named the model or its variant: it isn't here only because all are
    settings: the settings besides the model, for --data
    served: the id in /v1/models
    weight_bytes: size of the checkpoint; None: unknown
    served_variant: the model's, by its name in the catalog; "": it has none
    default_variant: of the model
    draft: id of the second repository that it needs; draft_bytes: its size; None: unknown
    image: its reference; "": none is needed
    skip: why it is not measured; "": it is measured
    """

    name: str
    model: str
    short: str
    variant: str = ""
    settings: Settings = {}
    nodes: int = 0
    tp: int = 0
    pp: int = 0
    served: str = ""
    weight_bytes: int | None = None
    chosen: bool = True
    served_variant: str = ""
    default_variant: str = ""
    draft: str = ""
    draft_bytes: int | None = None
    image: str = ""
    skip: str = ""

    @property
    def data(self) -> Settings:
        """All settings for --data, the model included."""
        return {"model": self.model, **self.settings}


class Feasibility(Struct, frozen=True):
    """What the project says about a case's settings; see its cluster/reports/feasible.py."""

    errors: tuple[str, ...] = ()
    model: str = ""
    served_model_name: str = ""
    nodes: int = 0
    tp: int = 0
    pp: int = 0
    mem_fraction: float = 0.0
    weight_bytes: int | None = None
    lacks_token: bool = False
    variant: str = ""
    draft: str = ""
    draft_bytes: int | None = None
    image: str = ""
    image_doubts: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


class _Document(Struct, frozen=True):
    version: int
    verdicts: tuple[Feasibility, ...]


def plan_suite(options: SuiteOptions) -> list[Case]:
    """All cases; those that can't be measured have a reason in `skip`. Contacts no node.

    Raises BadInput if no case can be measured.
    """
    cases = plan_cases(options, list_project(options, light=True))
    answers = ask_feasibility(options, [case.data for case in cases])
    cases = apply_feasibility(cases, answers, options.skip_token)
    refuse_empty(cases)
    return cases


def ask_feasibility(options: SuiteOptions, cases: Sequence[Settings]) -> list[Feasibility]:
    """What the project says of each of these sets of settings. Contacts no node."""
    file = project.inventory_file(options.project, options.inventory)
    answers: list[Feasibility] = []
    for at in range(0, len(cases), AT_ONCE):
        settings = json.dumps(cases[at : at + AT_ONCE])
        data = ["--data", f"light={file}", "--data", f"cases={settings}"]
        args = ["-y", "@local", FEASIBLE, *data]
        output = project.run_pyinfra(options.project, args, project.SECONDS)
        try:
            document = msgspec.json.decode(output, type=_Document)
        except msgspec.DecodeError as error:
            raise BenchError(
                f"{FEASIBLE} printed no verdicts ({error}): {output[:200]!r}"
            ) from None
        if document.version != VERSION:
            raise BenchError(
                f"{FEASIBLE} has version {document.version}, this spark-bench reads {VERSION}: "
                "install the project's own bench/ (pip install ./bench)"
            )
        answers += document.verdicts
    return answers


def list_project(options: SuiteOptions, light: bool = False) -> ProjectListing:
    """The project's listing. Raises BadInput if there is no project.

    light: contact no node
    """
    listing = project.find_listing(options.project, options.inventory, light=light)
    if listing is None:
        raise BadInput(
            f"--project {options.project}: there is no {project.LISTING} in it: give the folder of "
            "the project that deploys the models"
        )
    return listing


def plan_cases(options: SuiteOptions, listing: ProjectListing) -> list[Case]:
    """All requested cases: the models in their order, each with all its variants.

    listing: of the project, as its inventory declares it
    """
    nodes = len(listing.nodes)
    if options.nodes == "all" and nodes < 2:
        raise BadInput(
            f"--multi-node: inventory {options.inventory} has {nodes} node: list its workers, or "
            "leave the option out"
        )
    if options.models:
        models = select_models(options.models, listing.catalogue)
    else:
        # Leave out what only another runtime serves: Sparks don't run a laptop's models, and a
        # laptop doesn't run theirs.
        runtimes = {model.id: model.runtime for model in listing.catalogue}
        ours = runtimes.get(listing.model, "docker")
        models = [model for model in listing.catalogue if model.runtime == ours]
    cases: list[Case] = []
    counts: Counter[str] = Counter()
    for model, variant in product(models, options.variants):
        short = model.alias or model.id.rpartition("/")[2]
        label = variant_label(variant)
        name = slug(f"{short}_{label}" if label else short)
        # Number the names that replacing characters has made equal.
        counts[name.lower()] += 1
        number = counts[name.lower()]
        # The inventory's variant is for its own model.
        freed = listing.declares_variant and model.id != listing.model and "variant" not in variant
        case = Case(
            name=name if number == 1 else f"{name}_{number}",
            model=model.id,
            short=short,
            variant=label,
            settings={
                **variant,
                **({"variant": "auto"} if freed else {}),
                **_spread(options, variant, nodes, model),
            },
            chosen=bool(options.models) or model.id == listing.model or "variant" in variant,
            default_variant=model.default_variant,
            skip="it is gated (--skip-token)" if model.gated and options.skip_token else "",
        )
        cases.append(case)
    return cases


def _spread(options: SuiteOptions, variant: Settings, nodes: int, model: ProjectModel) -> Settings:
    """The setting that puts a case on the requested nodes; a single rank runs on the head, and so
    does a model's variant that is for one node, and not for as many as there are."""
    if nodes < 2 or "head_only" in variant:
        return {}
    if options.nodes:
        return {"head_only": options.nodes == "one"}
    ranks = [variant.get("tensor_parallel"), variant.get("pipeline_parallel", 1)]
    numbers = model.variants.get(str(variant.get("variant", model.default_variant)), ())
    one_node = 1 in numbers and nodes not in numbers and "tensor_parallel" not in variant
    return {"head_only": True} if ranks == [1, 1] or one_node else {}


def slug(text: str) -> str:
    """`text` as part of a file's name that every system allows.

    >>> slug("tp=2 mem_fraction=0.8"), slug("Qwen/Qwen2.5")
    ('tp2-mem_fraction0.8', 'Qwen-Qwen2.5')
    """
    return re.sub(r"[^\w.]+", "-", text.replace("=", "")).strip("-.")[:LONGEST_NAME] or "model"


def apply_feasibility(
    cases: Sequence[Case], answers: Sequence[Feasibility], skip_token: bool | None
) -> list[Case]:
    """The cases with the project's answers filled in.

    A case that the project would refuse is skipped, and so is one that can't be downloaded for lack
    of a token, unless skip_token is False; and one whose image is doubtful, unless it was chosen.
    """
    return [
        replace(
            case,
            nodes=answer.nodes,
            tp=answer.tp,
            pp=answer.pp,
            served=answer.served_model_name or case.model,
            weight_bytes=answer.weight_bytes,
            variant=_full_label(case, answer),
            served_variant=answer.variant,
            draft=answer.draft,
            draft_bytes=answer.draft_bytes,
            image=answer.image,
            skip=case.skip
            or "; ".join(answer.errors)
            or _without_effect(case, answer)
            or (NO_TOKEN if answer.lacks_token and skip_token is not False else "")
            or ("" if case.chosen else "; ".join(f"{d}{TO_CHOOSE}" for d in answer.image_doubts)),
        )
        for case, answer in zip(cases, answers, strict=True)
    ]


def _full_label(case: Case, answer: Feasibility) -> str:
    """The variant's label, with the model's own variant where it differs from its default."""
    varied = case.settings.get("variant", "auto") != "auto"
    if varied or answer.variant in ("", case.default_variant):
        return case.variant
    return f"{answer.variant} {case.variant}".rstrip()


def _without_effect(case: Case, answer: Feasibility) -> str:
    """Why a requested parallelism would be ignored; "": it would not.

    With head_only, one GPU serves, whatever else is set.
    """
    for name, actual in (("tensor_parallel", answer.tp), ("pipeline_parallel", answer.pp)):
        requested = case.settings.get(name, actual)
        if requested not in (actual, "auto"):
            return f"{name}={requested} has no effect with head_only=true: it would be {actual}"
    return ""


def refuse_empty(cases: Sequence[Case]) -> None:
    """Raise BadInput if there is nothing to measure."""
    if any(not case.skip for case in cases):
        return
    if not cases:
        raise BadInput("no model to run")
    reasons = list(dict.fromkeys(f"{case.name}: {case.skip}" for case in cases))
    text = "\n  ".join(reasons[:5])
    more = f"\n  … and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    raise BadInput(f"no model is left to measure:\n  {text}{more}")


def select_models(words: Sequence[str], catalog: Sequence[ProjectModel]) -> list[ProjectModel]:
    """The models named by number, alias or id, in the order typed and without duplicates.

    Raises BadInput that lists every word that names no model.
    """
    names = {
        name.lower(): model
        for model in catalog
        for name in (str(model.number) if model.number else "", model.alias, model.id)
        if name
    }
    unknown = [word for word in words if word.lower() not in names]
    if unknown:
        raise BadInput("; ".join(_unknown_model(word, names, catalog) for word in unknown))
    return list({names[word.lower()].id: names[word.lower()] for word in words}.values())


def _unknown_model(
    word: str, names: dict[str, ProjectModel], catalog: Sequence[ProjectModel]
) -> str:
    if word.lstrip("-").isdigit():
        numbers = [model.number for model in catalog if model.number]
        span = f"numbers are {min(numbers)} to {max(numbers)}" if numbers else "none has a number"
        return f"--models {word}: no model of the catalog has this number; {span}"
    near = difflib.get_close_matches(word.lower(), [n for n in names if not n.isdigit()], n=3)
    nearest = list(dict.fromkeys(names[name].alias or names[name].id for name in near))
    if nearest:
        return f"--models {word}: is not in the catalog; did you mean {' or '.join(nearest)}?"
    all_names = ", ".join(model.alias or model.id for model in catalog)
    return f"--models {word}: is not in the catalog; there are: {all_names}"
