"""Datasets taken in: verified image by image, listed, fetched and shown; the native long tail; paths that are no part of a key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import ltbench
from ltbench.cli.app import cli
from ltbench.config import experiment
from ltbench.data import verify
from ltbench.plan import Plan, plan
from ltbench.plugins import discover
from ltbench.records import RunFolder
from ltbench.types import Dataset, Part

DATASET = """
    import hashlib
    from dataclasses import dataclass
    from pathlib import Path

    import torch

    import ltbench

    @dataclass(frozen=True, kw_only=True)
    class Lumpy:
        path: Path = Path("somewhere")
        size: int = 3

        def load(self, folder):
            if self.missing(folder):
                raise ltbench.UsageError("lumpy is not there: ltbench data fetch lumpy")
            labels = torch.tensor([0] * 12 + [1] * 6 + [2] * 3)
            x = torch.arange(21 * 4).reshape(21, 2, 2, 1).to(torch.uint8)
            test = ltbench.Part(torch.arange(3), (x[[0, 12, 18]] + 100))
            return ltbench.Dataset(ltbench.Part(labels, x), test, ("a", "b", "c"), "lumpy", notes=("one file left out",))

        def missing(self, folder):
            return "" if (folder / "lumpy").exists() else "1 file of 3 bytes"

        def fetch(self, folder, progress):
            folder.mkdir(parents=True, exist_ok=True)
            progress("lumpy", 0, 3)
            (folder / "lumpy").write_text("all")
            progress("lumpy", 3, 3)

    @ltbench.hookimpl
    def ltbench_datasets():
        return [ltbench.Component("lumpy", "lumpy_plugin:Lumpy", "uneven classes")]
"""


@pytest.fixture
def lumpy(make_plugin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a dataset of 12, 6 and 3 images and return the folder its file is fetched to."""
    make_plugin("lumpy-plugin", DATASET)
    monkeypatch.setenv("LTBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def called(*arguments: object) -> tuple[int, str]:
    """Run a command in this process and return its exit code and output."""
    done = CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)
    if isinstance(done.exception, ltbench.LtbenchError):
        return done.exception.exit_code, str(done.exception)
    assert done.exception is None, done.exception
    return int(done.return_value or 0), done.output


def planned(**settings: object) -> Plan:
    """Plan an experiment on the uneven classes."""
    given = {"dataset": ["lumpy"], "backbone": ["pixels"], "groups": "thirds", **settings}
    return plan(experiment(given), discover(), Path("data"))


def images(*values: int) -> torch.Tensor:
    """Return images of one pixel each."""
    return torch.tensor(values, dtype=torch.uint8).reshape(-1, 1, 1, 1)


def test_verify_finds_what_is_in_two_parts_and_what_contradicts_itself() -> None:
    """Overlaps name both places, equal images of different classes are told, repeats of one class counted."""
    train = Part(torch.tensor([0, 1, 1, 0]), images(1, 2, 2, 2), {"path": ["a.png", "b.png", "c.png", "d.png"]})
    found = verify(Dataset(train, Part(torch.tensor([0]), images(1)), ("x", "y"), "f"))
    assert found.overlaps == ("a.png = test image 0",)
    assert found.contradictions == ("b.png = d.png",)
    assert (found.images, found.repeats, found.unreadable, found.sound) == (5, 1, (), False)


def test_verify_names_every_image_that_cannot_be_read() -> None:
    """An image that raises is told by part and number, with the cause, and the others are still looked at."""

    class Torn(list[torch.Tensor]):
        def __getitem__(self, i: int) -> torch.Tensor:  # type: ignore[override]
            if i == 1:
                raise OSError("image file is\ntruncated")
            return images(i)[0]

    train = Part(torch.tensor([0, 1, 0]), Torn([torch.zeros(1)] * 3))
    found = verify(Dataset(train, Part(torch.tensor([0]), images(9)), ("x", "y"), "f"))
    assert found.unreadable == ("train image 1: OSError: image file is truncated",)
    assert (found.overlaps, found.sound) == ((), False)


def test_a_dataset_is_listed_fetched_and_used(lumpy: Path) -> None:
    """What is missing is said, fetching makes it ready, and fetching again does nothing."""
    listed = called("data", "list")[1]
    assert re.search("lumpy +1 file of 3 bytes", listed)
    assert re.search(r"folder +say folder\[path=…\]", listed)
    code, told = called("data", "show", "lumpy")
    assert (code, told) == (2, "lumpy is not there: ltbench data fetch lumpy")
    assert called("data", "fetch", "lumpy") == (
        0,
        f"lumpy: 1 file of 3 bytes\nlumpy: 0 of 3 (0%)\nlumpy: 3 of 3 (100%)\nlumpy: ready in {lumpy}\n",
    )
    assert called("data", "fetch", "lumpy") == (0, "lumpy: ready, nothing was missing\n")
    assert re.search("lumpy +ready", called("data", "list")[1])


def test_a_fetch_that_fails_is_one_clear_error(lumpy: Path) -> None:
    """A plugin's exception while fetching names the dataset."""
    lumpy.mkdir()
    (lumpy / "lumpy").symlink_to("nowhere/lumpy")
    code, told = called("data", "fetch", "lumpy")
    assert code == 3
    assert told.startswith("dataset 'lumpy' cannot be fetched: FileNotFoundError")


def test_what_is_said_to_be_ready_was_loaded(lumpy: Path) -> None:
    """A dataset that has nothing to fetch, but cannot be loaded, is not called ready."""
    code, told = called("data", "fetch", "features[path=nowhere.npz]")
    assert code == 2
    assert "nowhere.npz" in told
    assert called("data", "fetch", "digits") == (0, "digits: ready, there is nothing to fetch\n")


def test_the_data_folder_is_an_option(lumpy: Path, tmp_path: Path) -> None:
    """``--data`` takes the place of the environment variable."""
    assert called("data", "fetch", "lumpy", "--data", tmp_path / "other")[0] == 0
    assert (tmp_path / "other" / "lumpy").exists()
    assert not (lumpy / "lumpy").exists()


def test_show_tells_counts_groups_and_notes(lumpy: Path) -> None:
    """A native tail shows its own counts; a profile shows what it would leave."""
    called("data", "fetch", "lumpy")
    _, told = called("data", "show", "lumpy", "--profile", "native", "--groups", "thirds", "--classes")
    assert "note: one file left out" in told
    assert "native, imbalance ratio 4: 21 of 21 training rows" in told
    assert "c        3             3       tail" in told
    assert "exp, imbalance ratio 3: 5 of 21 training rows" in called("data", "show", "lumpy", "--ratio", 3)[1]
    assert "native, imbalance ratio 4: 21 of 21 training rows" in called("data", "show", "lumpy")[1]


def test_show_refuses_a_ratio_that_leaves_a_class_empty(lumpy: Path) -> None:
    """The largest possible ratio is named."""
    called("data", "fetch", "lumpy")
    assert called("data", "show", "lumpy", "--ratio", 50) == (
        2,
        "imbalance ratio 50 leaves a class without rows: the largest class has 3, so the largest possible ratio is 3",
    )


def test_verify_command_tells_and_exits(lumpy: Path) -> None:
    """A sound dataset is exit code 0, and its images and fingerprint are told."""
    called("data", "fetch", "lumpy")
    code, told = called("data", "verify", "lumpy")
    assert code == 0
    assert told.endswith("0 repeat an image of their part and class\n24 images, fingerprint lumpy\n")


def test_verify_names_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is no image is told by its path and the dataset's own words, and the exit code is 1."""
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    code, told = called("data", "verify", f"folder[path='{tmp_path}',fingerprint=quick]")
    assert code == 1
    assert "4 cannot be read:\n" in told
    assert f"  a/1.png: image {tmp_path}/a/1.png cannot be decoded: it is no image of a known format\n" in told


def test_a_native_tail_trains_on_all_rows_and_has_no_balanced_reference(lumpy: Path, tmp_path: Path) -> None:
    """Ratio is the dataset's own, given ratios play no part, and the only reference is plain softmax."""
    called("data", "fetch", "lumpy")
    out = tmp_path / "run"
    made = ltbench.run(
        dataset="lumpy", backbone="pixels", classifier="ncm", profile="native", ratio=[2, 3], groups="thirds", out=out
    )
    assert [(r.cell["classifier"], r.cell["imbalance_ratio"], r.cell["rows"], r.cell["n_max"]) for r in made.records] == [
        ("ncm", 4.0, "all", 12),
        ("softmax", 4.0, "all", 12),
    ]
    assert all(r.result is not None and r.result["train"]["class_counts"] == [12, 6, 3] for r in made.records)
    assert "imbalance ratio 4 (native)" in called("leaderboard", out)[1]


def test_a_folder_is_no_part_of_a_key(lumpy: Path, tmp_path: Path) -> None:
    """The same data below another folder has the same keys; another parameter has not."""
    called("data", "fetch", "lumpy")
    keys = {}
    for number, name in enumerate(("lumpy[path=/a/birds]", "lumpy[path=/b/birds]", "lumpy[path=/a/other]", "lumpy[size=4]")):
        out = tmp_path / str(number)
        ltbench.run(dataset=name, backbone="pixels", classifier="ncm", ratio=[3], groups="thirds", reference=False, out=out)
        ((key, record),) = RunFolder(out).load().records.items()
        keys[name] = key
        assert record.cell["dataset"] == name.replace("/a/", "").replace("/b/", "")
        assert "/" not in json.dumps(record.provenance["key_parts"])
    assert keys["lumpy[path=/a/birds]"] == keys["lumpy[path=/b/birds]"] == keys["lumpy[path=/a/other]"]
    assert keys["lumpy[size=4]"] != keys["lumpy[path=/a/birds]"]


def test_two_folders_of_one_name_are_refused(lumpy: Path) -> None:
    """Tables could not tell them apart."""
    called("data", "fetch", "lumpy")
    with pytest.raises(ltbench.UsageError, match="would name both /a/birds and /b/birds: rename one"):
        planned(dataset=["lumpy[path=/a/birds]", "lumpy[path=/b/birds]"])
