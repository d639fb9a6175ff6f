"""Tests of fetching from the hub: real downloads from a loopback server, and one clear error for each failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ltbench
from ltbench_timm.hub import HubModel, cached, fetch, verify

FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 400}
MODEL = HubModel("lab/tiny")


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [("lab/tiny", "lab/tiny", None), ("lab/tiny@v1.0", "lab/tiny", "v1.0"), ("a/b@c/d", "a/b", "c/d")],
)
def test_hub_ids_are_read_and_written(text: str, repo: str, revision: str | None) -> None:
    """A hub id is user/model with a revision or without."""
    assert HubModel.parse(text) == HubModel(repo, revision)
    assert str(HubModel.parse(text)) == text


@pytest.mark.parametrize("text", ["tiny", "lab/", "/tiny", "lab/tiny/more", "lab/tiny@", ""])
def test_what_is_no_hub_id_is_refused(text: str) -> None:
    """A wrong hub id is shown with the right form."""
    with pytest.raises(ltbench.UsageError, match="user/model"):
        HubModel.parse(text)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_fetched_once(hub: Any, name: str) -> None:
    """The bytes arrive, and a second call downloads nothing again."""
    hub.commit("lab/tiny", FILES)
    assert fetch(MODEL, [name]).read_bytes() == FILES[name]
    before = len(hub.asked("GET"))
    assert fetch(MODEL, [name]).read_bytes() == FILES[name]
    assert before == len(hub.asked("GET")) == 1


def test_the_first_file_that_exists_is_taken(hub: Any) -> None:
    """Names are tried in order."""
    hub.commit("lab/tiny", FILES)
    assert fetch(MODEL, ["other.safetensors", "model.safetensors", "config.json"]).name == "model.safetensors"


def test_a_cut_download_goes_on_where_it_stopped(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the connection is closed early, twice, only the rest is asked for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.commit("lab/tiny", FILES)
    hub.cut_after += [30_000, 20_000]
    assert fetch(MODEL, ["model.safetensors"]).read_bytes() == FILES["model.safetensors"]
    asked = [request.range for request in hub.requests if request.path.startswith("/cdn/") and request.method == "GET"]
    assert asked == [None, "bytes=30000-", "bytes=50000-"]


def test_without_a_network_the_cache_serves(hub: Any) -> None:
    """What was fetched once is found when the server is gone, by branch and by commit, whichever name is asked for first."""
    commit = hub.commit("lab/tiny", FILES)
    fetch(MODEL, ["model.safetensors"])
    hub.stop()
    hub.start = lambda: None
    for model in (MODEL, HubModel("lab/tiny", "main"), HubModel("lab/tiny", commit)):
        assert fetch(model, ["missing.safetensors", "model.safetensors"]).read_bytes() == FILES["model.safetensors"]


def test_a_new_commit_is_fetched_and_an_old_one_stays(hub: Any) -> None:
    """A branch follows its newest commit; a commit or tag by name does not."""
    old = hub.commit("lab/tiny", FILES)
    hub.revisions["lab/tiny"]["v1"] = old
    fetch(MODEL, ["config.json"])
    hub.commit("lab/tiny", {"config.json": b"new"})
    found = [fetch(HubModel("lab/tiny", revision), ["config.json"]).read_bytes() for revision in (None, "v1", old)]
    assert found == [b"new", FILES["config.json"], FILES["config.json"]]


def test_a_model_is_of_one_commit(hub: Any) -> None:
    """Pinned by a first file, the others are of its commit, though the branch has moved; errors name the branch."""
    hub.commit("lab/tiny", FILES)
    pinned = MODEL.pinned(fetch(MODEL, ["config.json"]))
    hub.commit("lab/tiny", {"model.safetensors": b"new"})
    assert fetch(pinned, ["model.safetensors"]).read_bytes() == FILES["model.safetensors"]
    assert str(pinned) == "lab/tiny"


def test_the_cache_is_asked_without_the_network(hub: Any) -> None:
    """A file that was not fetched is None, one that was is its path; the server hears nothing of it."""
    hub.commit("lab/tiny", FILES)
    assert cached(MODEL, "config.json") is None
    path = fetch(MODEL, ["config.json"])
    count = len(hub.requests)
    assert cached(MODEL, "config.json") == path
    assert count == len(hub.requests)


def test_no_network_and_no_cache_is_one_clear_error(hub: Any) -> None:
    """The error names the model, the cache and the address."""
    hub.stop()
    with pytest.raises(
        ltbench.LtbenchError, match=r"lab/tiny is not in the cache .*hub-cache, and http://127.* cannot be reached"
    ):
        fetch(MODEL, ["model.safetensors"])


def test_offline_mode_is_the_same_clear_error(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE finds what is in the cache, and says what is not."""
    from huggingface_hub import constants

    hub.commit("lab/tiny", FILES)
    fetch(MODEL, ["config.json"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(MODEL, ["config.json"]).read_bytes() == FILES["config.json"]
    with pytest.raises(ltbench.LtbenchError, match="is not in the cache"):
        fetch(MODEL, ["model.safetensors"])


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (HubModel("lab/none"), "config.json", "has no model 'lab/none' that you may read"),
        (HubModel("lab/tiny", "v9"), "config.json", "'lab/tiny' has no revision 'v9'"),
        (HubModel("lab/tiny", "0" * 40), "config.json", "has no revision '0000"),
        (HubModel("lab/tiny"), "none.json", "lab/tiny holds no none.json"),
        (HubModel("lab/gated"), "config.json", "lab/gated is gated: accept its terms at http"),
        (HubModel("lab/..tiny"), "config.json", "'lab/..tiny' cannot be the name of a hub model"),
    ],
)
def test_what_is_not_there_is_one_clear_error(hub: Any, model: HubModel, name: str, message: str) -> None:
    """A missing model, revision or file, a gated model, and a name that cannot be: all are the user's to mend."""
    hub.commit("lab/tiny", FILES)
    hub.commit("lab/gated", FILES)
    hub.gated.add("lab/gated")
    with pytest.raises(ltbench.UsageError, match=message):
        fetch(model, [name])


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_hash_is_one_clear_error(hub: Any, name: str) -> None:
    """A file of the right length and wrong content, small or large, is refused, also the next time."""
    hub.commit("lab/tiny", FILES)
    hub.damaged = True
    for _ in range(2):
        with pytest.raises(
            ltbench.LtbenchError, match=rf"{name} of hub model lab/tiny is damaged: its hash is .* delete .* and run again"
        ):
            fetch(MODEL, [name])


@pytest.mark.parametrize("name", FILES)
def test_after_deleting_a_damaged_file_the_download_is_right(hub: Any, name: str) -> None:
    """The message's advice works."""
    hub.commit("lab/tiny", FILES)
    hub.damaged = True
    with pytest.raises(ltbench.LtbenchError) as caught:
        fetch(MODEL, [name])
    Path(str(caught.value).partition("delete ")[2].partition(" and run")[0]).unlink()
    hub.damaged = False
    assert fetch(MODEL, [name]).read_bytes() == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_a_bit_that_flips_in_the_cache_is_found(hub: Any, name: str) -> None:
    """Every use checks the file again."""
    hub.commit("lab/tiny", FILES)
    path = fetch(MODEL, [name]).resolve()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ltbench.LtbenchError, match="is damaged"):
        fetch(MODEL, [name])


def test_a_cache_without_links_is_taken_as_it_is(tmp_path: Path) -> None:
    """Where a file system has no links, there is no hash to compare with."""
    path = tmp_path / "config.json"
    path.write_bytes(b"anything")
    verify(path, MODEL)


@pytest.mark.parametrize(
    ("status", "message"),
    [(200, "does not answer as a hub does"), (500, "answers with status 500"), (503, "answers with status 503")],
)
def test_a_server_that_is_no_hub_or_fails_is_one_clear_error(
    hub: Any, monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    """A proxy's page and a server's failure are told from a missing model."""
    hub.commit("lab/tiny", FILES)
    handler = hub.server.RequestHandlerClass
    reply = handler.reply
    monkeypatch.setattr(handler, "reply", lambda self, *_: reply(self, status, {}, b"<html>"))
    with pytest.raises(ltbench.LtbenchError, match=rf"lab/tiny is not in the cache .* {message}"):
        fetch(MODEL, ["config.json"])
