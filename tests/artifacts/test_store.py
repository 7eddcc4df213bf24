"""The store: artifacts exist whole or not at all, and any changed byte is found."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.artifacts import ArtifactRef, Store, open_artifact, read_manifest, verify
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError, ControlGenError
from controlgen.utils.files import write_json

ROOT = Path(__file__).parents[2]
REF = ArtifactRef("gan", "toy-0123456789ab")
PARENTS = {"bank": ArtifactRef("bank", "toy-ba9876543210")}


def fill(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 3)
    (folder / "grids").mkdir()
    (folder / "grids" / "one.txt").write_text("one\n")
    write_json(folder / "config.json", {"seed": 1})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    result = Store(tmp_path / "store")
    with result.create(REF, PARENTS) as folder:
        fill(folder)
    return result


def test_what_is_made_is_there_and_says_what_it_is(store: Store) -> None:
    assert store.has(REF)
    assert store.refs() == [REF]
    folder = store.open(REF)
    manifest = read_manifest(folder)
    assert (manifest.kind, manifest.name) == (REF.kind, REF.name)
    assert manifest.fingerprint == "0123456789ab"
    assert manifest.parents == {"bank": "bank/toy-ba9876543210"}
    assert set(manifest.files) == {"weights.bin", "grids/one.txt", "config.json"}
    # Nothing hidden is left: no lock, no timer, no half-written file.
    assert list(folder.rglob(".*")) == []
    assert [path.name for path in folder.parent.iterdir()] == [REF.name]


def test_hashes_are_sha256_of_the_files(store: Store) -> None:
    folder = store.open(REF)
    names = list(read_manifest(folder).files)
    process = subprocess.run(
        ["sha256sum", *names], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    expected = {line.split("  ")[1]: line.split("  ")[0] for line in process.splitlines()}
    assert read_manifest(folder).files == expected


def test_nothing_is_visible_when_the_body_raises_and_it_can_be_resumed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.create(REF, {}) as folder:
        (folder / "half.txt").write_text("half")
        raise RuntimeError
    assert not store.has(REF)
    assert store.refs() == []
    with pytest.raises(ArtifactMissing, match="no artifact there"):
        store.open(REF)
    with store.create(REF, {}) as folder:
        assert (folder / "half.txt").read_text() == "half"
    assert store.has(REF)


def child(tmp_path: Path, body: str) -> "subprocess.Popen[str]":
    """A process that makes REF in tmp_path and then does `body` inside of create()."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from controlgen.artifacts import ArtifactRef, Store\n"
        f"ref = ArtifactRef({REF.kind!r}, {REF.name!r})\n"
        f"with Store({str(tmp_path)!r}).create(ref, {{}}) as folder:\n"
        f"    {body}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_sigkill_leaves_only_a_partial_and_two_makers_exclude_each_other(tmp_path: Path) -> None:
    body = "(folder / 'work').write_text('1'); print('in', flush=True); time.sleep(60)"
    with child(tmp_path, body) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        store = Store(tmp_path)
        with pytest.raises(ControlGenError, match="another process is making this") as refused:
            store.create(REF, {}).__enter__()
        assert "\n" not in str(refused.value)
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert [path.name for path in (tmp_path / REF.kind).iterdir()] == [f"{REF.name}.partial"]
    assert not store.has(REF)
    assert store.refs() == []
    # The lock died with its holder; the work did not.
    with store.create(REF, {}) as folder:
        assert (folder / "work").read_text() == "1"
    assert store.refs() == [REF]


def test_what_another_process_made_meanwhile_is_kept(store: Store) -> None:
    before = store.path(REF).stat().st_mtime_ns
    with (
        pytest.raises(ControlGenError, match="just made this artifact; run again"),
        store.create(REF, {}),
    ):
        pytest.fail("the body must not run")
    assert store.path(REF).stat().st_mtime_ns == before
    assert [path.name for path in store.path(REF).parent.iterdir()] == [REF.name]


def test_seconds_add_up_over_attempts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.create(REF, {}):
        time.sleep(0.15)
        raise RuntimeError
    with store.create(REF, {}):
        time.sleep(0.15)
    assert read_manifest(store.open(REF)).seconds >= 0.3


def test_a_flipped_bit_at_any_byte_of_the_manifest_is_found(store: Store) -> None:
    folder = store.path(REF)
    manifest = folder / "manifest.json"
    good = manifest.read_bytes()
    for position in range(len(good)):
        for bit in (0, 5):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            manifest.write_bytes(bad)
            with pytest.raises(ArtifactCorrupt):
                verify(folder)
    for bad in (good[:-1], good + b"\n", b"", good.replace(b'"parents"', b'"parent"')):
        manifest.write_bytes(bad)
        with pytest.raises(ArtifactCorrupt):
            verify(folder)
    manifest.write_bytes(good)
    verify(folder)


def test_the_manifest_is_canonical(store: Store) -> None:
    """Same content in another spelling is refused: there is one text for one manifest."""
    manifest = store.path(REF) / "manifest.json"
    good = json.loads(manifest.read_text())
    assert list(good) == sorted(good)
    manifest.write_text(json.dumps(good))
    with pytest.raises(ArtifactCorrupt, match="altered"):
        verify(store.path(REF))


@given(data=st.data())
def test_a_changed_byte_in_any_file_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        store = Store(tmp_path_factory.mktemp("whole"))
        with store.create(REF, {}) as partial:
            fill(partial)
        shutil.copytree(store.path(REF), folder)
    path = folder / data.draw(st.sampled_from(["weights.bin", "grids/one.txt", "config.json"]))
    good = path.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.integers(1, 255))
    bad = bytearray(good)
    bad[position] ^= change
    try:
        path.write_bytes(bad)
        with pytest.raises(ArtifactCorrupt, match=path.name):
            verify(folder)
    finally:
        path.write_bytes(good)
    verify(folder)


@pytest.mark.parametrize("name", ["weights.bin", "grids/one.txt"])
def test_a_deleted_file_is_found_and_the_rest_is_set_aside_not_deleted(
    store: Store, name: str
) -> None:
    (store.path(REF) / name).unlink()
    with pytest.raises(ArtifactCorrupt, match=f"{name}: is missing"):
        store.open(REF)
    assert not store.has(REF)
    aside = store.path(REF).with_name(f"{REF.name}.damaged1")
    assert (aside / "config.json").is_file()
    assert store.refs() == []
    # The name is free again, and a second damaged one does not overwrite the first.
    with store.create(REF, {}) as folder:
        fill(folder)
    (store.path(REF) / "config.json").write_text("{}")
    assert not store.has(REF)
    assert {path.name for path in aside.parent.iterdir()} == {
        f"{REF.name}.damaged1",
        f"{REF.name}.damaged2",
    }


def test_an_artifact_without_its_manifest_does_not_block_the_next_one(store: Store) -> None:
    (store.path(REF) / "manifest.json").unlink()
    assert not store.has(REF)
    with store.create(REF, {}) as folder:
        fill(folder)
    assert store.has(REF)


def test_a_copied_manifest_of_another_artifact_is_found(store: Store, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(store.path(REF), other)
    (other / "weights.bin").write_bytes(b"mine")
    with pytest.raises(ArtifactCorrupt, match=r"weights\.bin"):
        open_artifact(other)


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Store(tmp_path / "file").create(REF, {}).__enter__()


def test_non_finite_numbers_never_reach_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_ref_parses_what_it_prints() -> None:
    assert ArtifactRef.parse(str(REF)) == REF
    assert ArtifactRef.parse(f"{REF}/") == REF
    assert REF.fingerprint == "0123456789ab"


@pytest.mark.parametrize(
    "text", ["", "/", "gan", "gan/", "/name", "gan/..", "../gan/x", "GAN/x", "a/b/c", "gan/.x"]
)
def test_what_is_no_ref_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="kind/name"):
        ArtifactRef.parse(text)
