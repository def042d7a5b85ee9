"""The README's table of profiles is the profiles."""

from __future__ import annotations

from pathlib import Path

from spark_bench.load.profiles import Profile, catalogue

README = Path(__file__).parents[3] / "README.md"


def row(profile: Profile) -> str:
    rate, slots = profile.request_rate, profile.concurrency
    cells = (
        f"`{profile.name}`",
        profile.num_prompts,
        profile.input_len,
        profile.output_len,
        "" if rate is None else f"{rate:g}",
        "" if slots is None else slots,
        profile.use.rstrip("."),
    )
    return f"| {' | '.join(map(str, cells))} |"


def test_the_table_of_profiles() -> None:
    table = README.read_text().split("test_readme_profiles.py", 1)[1].split("\n\n", 1)[0]
    assert table.splitlines()[3:] == [row(profile) for profile in catalogue().values()]
