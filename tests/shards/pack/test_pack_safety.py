"""Kills, full disks, missing rights, two at once: DEST is complete or absent, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from trees import class_folders, picture, put, signature

from medvq.config.recipe import Recipe
from medvq.errors import DataError, MedvqError, UsageError
from medvq.shards.pack import examine, workspace, write
from medvq.shards.pack.pack import pack

RECIPE = Recipe(size=(24, 24), shard_samples=50)
PACK = """
import sys
from pathlib import Path
from medvq.config.recipe import Recipe
from medvq.shards.pack.pack import pack
pack(Path(sys.argv[1]), Path(sys.argv[2]), Recipe(size=(24, 24), shard_samples=50), processes=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "cells"
    return class_folders(root, {"a": 150, "b": 130})


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    dest = tmp_path_factory.mktemp("whole") / "out"
    pack(source, dest, RECIPE, processes=1)
    return signature(dest)


class Killed(BaseException):
    """Stands for kill -9: no handler of the program catches it."""


# 9 parts and 6 shards, two renames each.
@pytest.mark.parametrize("step", [0, 1, 2, 5, 12, 16, 17, 18, 19, 20, 23, 27, 28, 29, 30])
def test_stopped_at_any_step_and_started_again_ends_the_same(
    source: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    done = 0
    rename = os.replace

    def replace(a: str, b: str) -> None:
        nonlocal done
        if done == step:
            raise Killed
        done += 1
        rename(a, b)

    with monkeypatch.context() as m:
        m.setattr(os, "replace", replace)
        try:
            pack(source, tmp_path / "out", RECIPE, processes=1)
        except Killed:
            assert not (tmp_path / "out").exists()
    pack(source, tmp_path / "out", RECIPE, processes=1)
    assert signature(tmp_path / "out") == whole
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("delay", [0.35, 0.5, 0.65, 0.8])
def test_kill_9_and_the_same_command_again(source: Path, whole: dict[str, str], tmp_path: Path, delay: float) -> None:
    command = [sys.executable, "-c", PACK, str(source), str(tmp_path / "out"), "2"]
    process = subprocess.Popen(command)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)  # the parent only: its workers must notice by themselves
    process.wait()
    subprocess.run(command, check=True)
    assert signature(tmp_path / "out") == whole
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_was_done_before_a_stop_is_not_done_again(
    source: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as m:
        m.setattr(workspace.Workspace, "publish", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pack(source, tmp_path / "out", RECIPE, processes=1)
    monkeypatch.setattr(examine, "decode", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(write, "TarWriter", lambda *_: pytest.fail("written again"))
    pack(source, tmp_path / "out", RECIPE, processes=1)
    assert signature(tmp_path / "out") == whole


def test_what_was_done_for_another_recipe_is_not_used(source: Path, whole: dict[str, str], tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with monkeypatch.context() as m:
        m.setattr(workspace.Workspace, "publish", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pack(source, tmp_path / "out", RECIPE.model_copy(update={"size": (7, 7)}), processes=1)
    pack(source, tmp_path / "out", RECIPE, processes=1)
    assert signature(tmp_path / "out") == whole


def test_a_source_that_cannot_be_read_costs_no_earlier_work(
    source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as m:
        m.setattr("medvq.shards.pack.phases.plan_layout", _stop)
        with pytest.raises(KeyboardInterrupt):
            pack(source, tmp_path / "new" / "out", RECIPE, processes=1)
    done = sorted(p.name for p in (tmp_path / "new" / ".out.packing" / "parts").iterdir())
    assert len(done) == 10
    with pytest.raises(UsageError, match="no image fits"):
        pack(source, tmp_path / "new" / "out", Recipe(images=["{id}.xyz"]), processes=2)
    assert sorted(p.name for p in (tmp_path / "new" / ".out.packing" / "parts").iterdir()) == done
    pack(source, tmp_path / "new" / "out", RECIPE, processes=2)
    assert signature(tmp_path / "new" / "out") == whole
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("torn", ["parts/examined.jsonl", "parts/part-000002.bin", "records/train-000001.tar.json",
                                  "out/train-000002.tar"])  # fmt: skip
def test_a_torn_file_in_the_staging_folder_is_made_again(
    source: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    with monkeypatch.context() as m:
        m.setattr(workspace.Workspace, "publish", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pack(source, tmp_path / "out", RECIPE, processes=1)
    path = tmp_path / ".out.packing" / torn
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pack(source, tmp_path / "out", RECIPE, processes=1)
    assert signature(tmp_path / "out") == whole


def test_what_was_logged_after_a_torn_line_is_not_done_again(
    source: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / ".out.packing" / "parts" / "examined.jsonl"
    with monkeypatch.context() as m:
        m.setattr(workspace.Workspace, "publish", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            pack(source, tmp_path / "out", RECIPE, processes=1)
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
        with pytest.raises(Killed):
            pack(source, tmp_path / "out", RECIPE, processes=1)
    monkeypatch.setattr("medvq.shards.pack.phases.examine_part", _stop)
    pack(source, tmp_path / "out", RECIPE, processes=1)
    assert signature(tmp_path / "out") == whole


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["part-", "examined", "train-", "index", "manifest"])
def test_a_disk_that_refuses_ends_in_one_clear_error_and_nothing_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    import io

    sync = workspace.sync
    real = io.open

    def refuse(path: object, *args: object, **kw: object) -> object:
        if os.path.basename(str(path)).startswith(name) and {"w", "wb", "a"} & set(map(str, args)):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **kw)  # type: ignore[call-overload]

    def refuse_sync(path: Path) -> None:
        if path.name.startswith(name):
            raise OSError(code, os.strerror(code), str(path))
        sync(path)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(workspace, "sync", refuse_sync)
    with pytest.raises(MedvqError) as e:
        pack(source, tmp_path / "new" / "out", RECIPE, processes=1)
    assert e.value.code == 1
    assert e.value.where
    assert e.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_file_size_in_worker_processes_is_told(tmp_path: Path, source: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n" + PACK
    code = (
        "from medvq.errors import MedvqError\ntry:\n" + "\n".join("    " + line for line in limited.splitlines())
        + "\nexcept MedvqError as e:\n    print(e.code, e.error)"
    )  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code, str(source), str(tmp_path / "out"), "2"],
                         capture_output=True, text=True)  # fmt: skip
    assert out.stdout.startswith("1 the file would be larger"), out.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 60_000


MOUNTED = """
set -e
mount -t tmpfs -o size=$3,mode=700 none "$2"
mkdir "$2/kept"
if [ "$4" = ro ]; then mount -o remount,ro "$2"; fi
if "$5" -c "$6" "$1" "$2/new/out" "$7"; then echo packed; fi
ls -A "$2"
"""
OWN_MOUNTS = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
PACK_AND_TELL = "from medvq.errors import MedvqError\ntry:\n" + "".join(
    f"    {line}\n" for line in PACK.strip().splitlines()
) + "except MedvqError as e:\n    print(e.code, e.error)\n    sys.exit(1)\n"  # fmt: skip


def packed_in_a_mount(source: Path, where: Path, size: str, mode: str, processes: int) -> list[str]:
    """Pack to a real tmpfs of `size` in a mount namespace; return what is printed and the files then in it."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts of one's own are not allowed here")
    arguments = [str(source), str(where), size, mode, sys.executable, PACK_AND_TELL, str(processes)]
    done = subprocess.run([*OWN_MOUNTS, "sh", "-c", MOUNTED, "sh", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("size", ["64k", "300k", "800k"])
def test_a_disk_that_is_really_full(source: Path, tmp_path: Path, size: str, processes: int) -> None:
    found = packed_in_a_mount(source, tmp_path, size, "rw", processes)
    assert found == ["1 no space is left on the disk; nothing was published", "kept"]


def test_a_disk_with_room_takes_all(source: Path, tmp_path: Path) -> None:
    assert packed_in_a_mount(source, tmp_path, "8m", "rw", 2) == ["packed", "kept", "new"]


def test_a_file_system_that_is_really_read_only(source: Path, tmp_path: Path) -> None:
    found = packed_in_a_mount(source, tmp_path, "4m", "ro", 1)
    assert found == ["1 the file system is read-only; nothing was published", "kept"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path, source: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(MedvqError, match="cannot be written"):
        pack(source, tmp_path / "locked" / "out", RECIPE)


def test_a_disk_without_room_for_the_lock(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: object, *args: int, **kw: int) -> int:
        if str(path).endswith("lock"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, *args, **kw)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(MedvqError, match="no space"):
        pack(source, tmp_path / "out", RECIPE, processes=1)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file(tmp_path: Path, source: Path) -> None:
    put(tmp_path / "file", "x")
    with pytest.raises(MedvqError) as e:
        pack(source, tmp_path / "file" / "out", RECIPE, processes=1)
    assert e.value.code == 1


def test_two_at_once_do_not_mix(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = workspace.Workspace(tmp_path / "out")
    first.claim()
    first.open("someone else")
    put(first.folder / "parts" / "theirs", "work of another")
    monkeypatch.setattr(workspace, "PATIENCE", 0.1)
    with pytest.raises(MedvqError, match="another process"):
        pack(source, tmp_path / "out", RECIPE, processes=1)
    assert (first.folder / "parts" / "theirs").exists()
    first.release()
    pack(source, tmp_path / "out", RECIPE, processes=1)
    assert not first.folder.exists()


def test_who_waited_for_another_finds_what_it_published(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "cells", {"a": 5, "b": 5})
    first = workspace.Workspace(tmp_path / "out")
    first.claim()
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(pack, root, tmp_path / "out", processes=1)
        time.sleep(0.3)
        pack(root, tmp_path / "other", processes=1)
        os.rename(tmp_path / "other", tmp_path / "out")
        first.remove()
        assert second.result().unchanged
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells", "out"]


def test_a_lock_on_a_folder_that_was_removed_is_none(tmp_path: Path) -> None:
    first, second, third = (workspace.Workspace(tmp_path / "out") for _ in range(3))
    first.claim()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(second.lock)
        time.sleep(0.2)
        first.remove()
        third.claim()
        assert not waiting.result()
    second.remove()
    assert third.folder.exists()
    third.remove()
    assert not third.folder.exists()


def test_a_source_that_changes_while_it_is_packed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "cells", {"a": 5, "b": 5})
    real = write.write_shard

    def meddle(task: write.ShardTask) -> write.Written:
        picture(root / "a" / "a_001.jpg", 12345)
        return real(task)

    monkeypatch.setattr("medvq.shards.pack.pack.write_shard", meddle)
    with pytest.raises(DataError, match="changed"):
        pack(root, tmp_path / "out", processes=1)
    assert [p.name for p in tmp_path.iterdir()] == ["cells"]


def test_a_worker_that_is_killed_is_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medvq.shards.pack.phases.examine_part", _die)
    with pytest.raises(MedvqError, match=r"packing process \d ended unexpectedly"):
        pack(source, tmp_path / "out", RECIPE, processes=2)
    assert list(tmp_path.iterdir()) == []


def _die(part: examine.ExaminedPart) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0
