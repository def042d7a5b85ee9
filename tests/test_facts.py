"""Every fact against recorded output: one YAML file a case, in facts/<module>.<Fact>/."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra_testing.facts import make_fact_tests

CASES = Path(__file__).parent / "facts"

# One case of each fact states the command; the others need not repeat it.
same_command = pytest.mark.filterwarnings("ignore:No command set")

for case in sorted(d.name for d in CASES.iterdir() if d.is_dir()):
    locals()[case] = same_command(make_fact_tests("facts", case, CASES / case))
