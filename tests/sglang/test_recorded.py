"""Launch lines against the recorded options. `make check-sglang` asks the real parser."""

from __future__ import annotations

import pytest
from launch_lines import ACCEPTED, REFUSED, launches

from cluster.engine.argv import Launch, argv
from cluster.engine.options import RECORDED, check_arguments
from cluster.findings import Level

each_version = pytest.mark.parametrize("version", RECORDED)
BASE = Launch("some/model")


@each_version
def test_every_launch_line_is_accepted(version: str) -> None:
    for launch, named in launches(version):
        assert check_arguments(argv(launch, version), version, named) == []


@each_version
@pytest.mark.parametrize("words", ACCEPTED, ids=" ".join)
def test_arguments_the_real_parser_accepts_are_accepted(
    words: tuple[str, ...], version: str
) -> None:
    assert check_arguments(argv(BASE, version) + words, version) == []


@each_version
@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_arguments_the_real_parser_refuses_are_refused(
    words: tuple[str, ...], version: str
) -> None:
    findings = check_arguments(argv(BASE, version) + words, version)
    assert findings and all(f.level is Level.ERROR and f.cure for f in findings)
