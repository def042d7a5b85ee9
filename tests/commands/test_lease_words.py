"""The lease's scripts, run for real by a shell in a folder of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import lease
from cluster.command import Command
from cluster.lease import STALE_SECONDS, Lease, LeaseAnswer

ANN = Lease("ann", "laptop", 1.0, "pyinfra a.py deploy.py", "aaaa")
BOB = Lease("bob", "desk", 2.0, "pyinfra b.py deploy.py", "bbbb")


class Head:
    """A node's folder for leases; without flock, as a Mac, where `flock` is False."""

    def __init__(self, base: Path, shell: str, flock: bool) -> None:
        self.base, self.shell = base, shell
        self.file = base / "spark-serving" / "sglang.lease"
        self.env = {**os.environ, "TMPDIR": str(base / "none")}
        if not flock:
            self.env["PATH"] = str(_without_flock(base.parent / "bin"))

    def run(self, command: Command) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(shutil.which(self.shell)), *command.bounded[1:]],
            input=command.stdin,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=20,
        )

    def ask(self, command: Command) -> LeaseAnswer | None:
        done = self.run(command)
        assert (done.returncode, done.stderr) == (0, "")
        return lease.parse_lease_answer(done.stdout.splitlines())

    def acquire(self, who: Lease) -> LeaseAnswer | None:
        return self.ask(lease.acquire_lease("sglang", who, 20, str(self.base)))

    def refresh(self, who: Lease) -> LeaseAnswer | None:
        return self.ask(lease.refresh_lease("sglang", who.id, 20, str(self.base)))

    def release(self, who: Lease) -> None:
        self.ask(lease.release_lease("sglang", who.id, 20, str(self.base)))

    def read(self) -> LeaseAnswer | None:
        return self.ask(lease.read_lease("sglang", 20, str(self.base)))

    def fresh(self) -> Lease | None:
        """Whose lease it is; it was refreshed just now."""
        there = self.read()
        assert there and there.how == "held" and 0 <= there.age < 10
        return there.lease

    def age(self, seconds: int) -> None:
        """The file's time, so many seconds ago."""
        then = time.time() - seconds
        os.utime(self.file, (then, then))


def _without_flock(folder: Path) -> Path:
    folder.mkdir()
    for name in (
        "mkdir",
        "rm",
        "rmdir",
        "cat",
        "ln",
        "mv",
        "stat",
        "date",
        "touch",
        "grep",
        "head",
    ):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


@pytest.fixture(
    params=[
        pytest.param(("sh", True), id="sh"),
        pytest.param(("bash", True), id="bash"),
        pytest.param(("sh", False), id="without-flock"),
    ]
)
def head(request: pytest.FixtureRequest, tmp_path: Path) -> Head:
    base = tmp_path / "it's locked"
    base.mkdir()
    return Head(base, *request.param)


def test_a_lease_is_taken_read_and_released(head: Head) -> None:
    assert head.read() is None
    assert head.acquire(ANN) == LeaseAnswer("taken")
    assert head.fresh() == ANN
    head.release(ANN)
    assert head.read() is None
    assert os.listdir(head.base) == []


def test_a_second_run_learns_who_holds_it_and_changes_nothing(head: Head) -> None:
    head.acquire(ANN)
    head.age(30)
    before = head.file.stat()
    there = head.acquire(BOB)
    assert there and (there.how, there.lease) == ("held", ANN)
    assert 30 <= there.age <= 32
    assert (head.file.stat().st_ino, head.file.stat().st_mtime) == (before.st_ino, before.st_mtime)
    assert os.listdir(head.file.parent) == ["sglang.lease"]


@pytest.mark.parametrize(
    "age",
    [
        pytest.param(STALE_SECONDS, id="stale"),
        pytest.param(-2 * STALE_SECONDS, id="from-a-future-that-a-clock-once-told"),
    ],
)
def test_a_stale_lease_is_taken_over_and_lost_for_its_owner(head: Head, age: int) -> None:
    head.acquire(ANN)
    head.age(age)
    there = head.acquire(BOB)
    assert there and (there.how, there.lease) == ("stale", ANN)
    lost = head.refresh(ANN)
    assert lost and (lost.how, lost.lease) == ("held", BOB)
    head.release(ANN)
    assert head.fresh() == BOB


def test_a_refreshed_lease_stays_its_owners(head: Head) -> None:
    head.acquire(ANN)
    head.age(STALE_SECONDS - 5)
    assert head.refresh(ANN) == LeaseAnswer("ours")
    assert head.fresh() == ANN


def test_a_lease_that_nobody_took_over_is_ours_again_after_a_long_silence(head: Head) -> None:
    head.acquire(ANN)
    head.age(10 * STALE_SECONDS)
    assert head.refresh(ANN) == LeaseAnswer("ours")


def test_a_missing_lease_is_reported_and_not_recreated(head: Head) -> None:
    assert head.refresh(ANN) == LeaseAnswer("gone")
    head.release(ANN)
    assert os.listdir(head.base) == []


def test_groups_do_not_block_each_other(head: Head) -> None:
    head.acquire(ANN)
    other = lease.acquire_lease("second", BOB, 20, str(head.base))
    assert head.ask(other) == LeaseAnswer("taken")
    head.release(ANN)
    assert os.listdir(head.file.parent) == ["second.lease"]


def test_another_login_may_take_over_whatever_the_umask(head: Head) -> None:
    old = os.umask(0o077)
    try:
        head.acquire(ANN)
    finally:
        os.umask(old)
    assert head.file.stat().st_mode & 0o777 == 0o666
    assert head.file.parent.stat().st_mode & 0o777 == 0o777


@pytest.mark.parametrize("head", [pytest.param(("sh", True), id="sh")], indirect=True)
@pytest.mark.parametrize(
    "before", [pytest.param(lambda _: None, id="free"), pytest.param(Head.age, id="stale")]
)
def test_exactly_one_of_many_gets_the_lease(head: Head, before: Callable[..., None]) -> None:
    if before is Head.age:
        head.acquire(ANN)
        head.age(STALE_SECONDS)
    runs = [Lease("run", "x", 0.0, "y", f"{i:08}") for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(head.acquire, runs))
    assert sorted(a.how for a in answers if a)[:11] == ["held"] * 11
    won = [run for run, a in zip(runs, answers, strict=True) if a and a.how != "held"]
    assert [head.fresh()] == won


def test_a_lease_falls_back_to_the_temporary_folder(tmp_path: Path) -> None:
    head = Head(tmp_path, "sh", flock=True)
    head.env["TMPDIR"] = str(tmp_path)
    assert head.ask(lease.acquire_lease("sglang", ANN, 20, "/no/such")) == LeaseAnswer("taken")
    assert lease.parse_lease(head.file.read_text()) == ANN
    head.ask(lease.release_lease("sglang", "aaaa", 20, "/no/such"))
    assert os.listdir(tmp_path) == []


def test_an_unwritable_lease_folder_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "spark-serving").write_text("in the way")
    done = Head(tmp_path, "sh", flock=True).run(
        lease.acquire_lease("sglang", ANN, 20, str(tmp_path))
    )
    assert done.returncode != 0
    assert "spark-serving" in done.stderr


@pytest.mark.parametrize(
    "put",
    [
        pytest.param(os.mkfifo, id="pipe"),
        pytest.param(lambda at: os.symlink("/dev/zero", at), id="link-to-a-device"),
        pytest.param(lambda at: os.symlink("/no/such", at), id="link-to-nothing"),
        pytest.param(lambda at: os.symlink(__file__, at), id="link-to-a-file"),
    ],
)
def test_a_non_file_in_place_of_a_lease_is_never_opened(
    head: Head, put: Callable[[Path], None]
) -> None:
    head.file.parent.mkdir()
    put(head.file)
    assert head.read() is None
    assert head.refresh(ANN) == LeaseAnswer("gone")
    assert head.acquire(ANN) == LeaseAnswer("taken")
    assert head.fresh() == ANN
    assert head.file.is_file() and not head.file.is_symlink()


def test_a_folder_in_place_of_the_lease_is_reported_with_a_fix(head: Head) -> None:
    head.file.mkdir(parents=True)
    assert head.read() is None
    done = head.run(lease.acquire_lease("sglang", ANN, 20, str(head.base)))
    assert done.returncode != 0
    assert f"is a folder -> rm -r {head.file}" in done.stderr


def test_a_link_in_place_of_the_folder_is_reported_with_a_fix(head: Head, tmp_path: Path) -> None:
    elsewhere = tmp_path / "somebody else's"
    elsewhere.mkdir()
    head.file.parent.symlink_to(elsewhere)
    done = head.run(lease.acquire_lease("sglang", ANN, 20, str(head.base)))
    assert done.returncode != 0
    assert f"is a link -> rm {head.file.parent}" in done.stderr
    assert os.listdir(elsewhere) == []


def test_only_the_start_of_a_huge_lease_is_sent(head: Head) -> None:
    head.file.parent.mkdir()
    head.file.write_text("x" * 10**7)
    there = head.read()
    assert there and (there.how, there.lease) == ("held", None)
    done = head.run(lease.read_lease("sglang", 20, str(head.base)))
    assert len(done.stdout) < 2 * 65536
