"""A result that can't be written in its place: one sentence says so, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from result_samples import WHEN, a_request, a_result
from spark_bench.results.codec import START_NS, Row, encode_result, read_result, to_row
from spark_bench.results.files import (
    NotSaved,
    default_path,
    save_somewhere,
    write_requests,
    write_result,
)

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="Linux alone has /dev/full")


@needs_full
def test_a_full_device_returns_the_result_and_stays_a_device() -> None:
    with pytest.raises(NotSaved) as caught:
        write_result(a_result(), FULL)
    assert caught.value.message == (
        "/dev/full can't be written: No space left on device. Name another file with --output."
    )
    assert caught.value.data == encode_result(a_result())
    assert FULL.is_char_device()


@needs_full
def test_requests_on_a_full_device() -> None:
    with pytest.raises(NotSaved, match="No space left on device"):
        write_requests((to_row(a_request(), START_NS) for _ in range(9)), FULL)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(NotSaved, match=r"result\.json can't be written: it is a folder") as caught:
        write_result(a_result(), tmp_path / "result.json")
    assert caught.value.data == encode_result(a_result())
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "benchmark_results").write_text("")
    path = default_path("quick", WHEN, tmp_path / "benchmark_results")
    assert path.name == "bench_quick_20261123_133805.json"
    with pytest.raises(NotSaved, match=r"Not a directory|File exists"):
        write_result(a_result(), path)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(NotSaved, match="File name too long"):
        write_result(a_result(), tmp_path / ("x" * 300))


def test_an_interrupted_write_leaves_no_trace(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield to_row(a_request(), START_NS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_requests(rows(), tmp_path / "r.jsonl")
    assert not os.listdir(tmp_path)


def test_it_is_saved_at_the_first_place_that_takes_it(tmp_path: Path) -> None:
    places = [FULL.parent / "full" / "r.json", tmp_path / "none" / "r.json", tmp_path / "r.json"]
    saved = save_somewhere(encode_result(a_result()), places)
    assert saved == tmp_path / "r.json"
    assert read_result(saved) == a_result()


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("another run's")
    saved = save_somewhere(b"{}", [tmp_path / "r.json"])
    assert saved == tmp_path / "r_2.json"
    assert (tmp_path / "r.json").read_text() == "another run's"


def test_nothing_is_saved_where_no_folder_is_writable(tmp_path: Path) -> None:
    assert save_somewhere(b"{}", [tmp_path / "none" / "r.json"]) is None


def alone(script: str, *words: Path) -> str:
    """Run Python in a mount name space of its own; what it mounts ends with it."""
    if os.geteuid() != 0 or sys.platform != "linux":
        if os.environ.get("CI") == "true":
            pytest.fail("CI=true needs root on Linux: it mounts a disk of 64 kB")
        pytest.skip("mounting a disk of 64 kB needs root on Linux")
    result = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


ON_A_FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from result_samples import a_request, a_result
from spark_bench.results.codec import START_NS, encode_result, read_result, to_row
from spark_bench.results.files import (
    NotSaved,
    default_path,
    save_somewhere,
    write_requests,
    write_result,
)
from result_samples import WHEN

disk, elsewhere = map(Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
(disk / "older.json").write_text("an older result")
(disk / "filling").write_bytes(bytes(52 * 1024))
before = sorted(os.listdir(disk))


def refused(act):
    try:
        act()
    except NotSaved as error:
        assert "No space left on device" in error.message, error.message
        assert sorted(os.listdir(disk)) == before, os.listdir(disk)
        return error
    raise AssertionError("the disk was not full")


assert len(encode_result(a_result())) > 12 * 1024
error = refused(lambda: write_result(a_result(), default_path("quick", WHEN, disk)))
refused(lambda: write_result(a_result(), disk / "older.json"))
assert (disk / "older.json").read_text() == "an older result"
row = to_row(a_request(text="x" * 1000), START_NS)
refused(lambda: write_requests((row for _ in range(100)), disk / "r.jsonl"))

saved = save_somewhere(error.data, [disk / error.path.name, elsewhere / error.path.name])
assert sorted(os.listdir(disk)) == before, os.listdir(disk)
assert read_result(saved) == a_result()
print(saved)
"""


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    (disk := tmp_path / "disk").mkdir()
    result = alone(ON_A_FULL_DISK, disk, tmp_path)
    saved = tmp_path / "bench_quick_20261123_133805.json"
    assert result.strip() == str(saved)
    assert read_result(saved) == a_result()


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from result_samples import a_result
from spark_bench.results.files import NotSaved, default_path, write_result
from result_samples import WHEN

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], check=True)
try:
    write_result(a_result(), default_path("quick", WHEN, disk / "benchmark_results"))
except NotSaved as error:
    print(error.message)
"""


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    result = alone(READ_ONLY, tmp_path)
    assert "can't be written: Read-only file system. Name another file with --output." in result
