"""A whole run on a model of the hub, in processes of its own: online, offline, and with a name that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from ltbench.records import RunFolder

pytestmark = pytest.mark.slow


def run(tmp_path: Path, endpoint: str, out: str, *backbones: str) -> tuple[int, dict[str, Any]]:
    """Run a cell of each backbone with a feature cache of its own; return the exit code and the records by backbone."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "LTBENCH_CACHE": str(tmp_path / f"cache-{out}"),
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    cell = ["-d", "digits", "-g", "none", "-c", "ncm", "--no-reference", "--workers", "0", "-q", "--out", str(tmp_path / out)]
    named = [part for backbone in backbones for part in ("-b", backbone)]
    command = [sys.executable, "-m", "ltbench", "run", *cell, *named]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert "Traceback" not in done.stderr
    records = [json.loads(record.to_json()) for record in RunFolder(tmp_path / out).everything()]
    return done.returncode, {record["cell"]["backbone"]: record for record in records}


def test_a_hub_model_runs_online_and_offline(hub: Any, tmp_path: Path) -> None:
    """The features that are extracted again, without a server, give the same result; a wrong revision is a told failure."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        arguments = {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4, "img_size": 8}
        model = timm.create_model("vit_base_patch16_224", num_classes=0, **arguments)
    timm.models.save_for_hf(model, tmp_path / "tiny", model_args=arguments, safe_serialization=True)
    hub.commit_folder("lab/tiny", tmp_path / "tiny")
    name = "timm:hf-hub:lab/tiny"
    code, online = run(tmp_path, hub.endpoint, "online", name, f"{name}@v2")
    assert (code, online[name]["status"], online[f"{name}@v2"]["status"]) == (1, "done", "failed")
    error = online[f"{name}@v2"]["failure"]["error"]
    assert error == "UsageError: hub model 'lab/tiny' has no revision 'v2': name a branch, tag or commit"
    hub.stop()
    hub.stop = lambda: None
    code, offline = run(tmp_path, hub.endpoint, "offline", name)
    assert (code, offline[name]["status"]) == (0, "done"), offline[name].get("failure")
    assert (online[name]["key"], online[name]["result"]) == (offline[name]["key"], offline[name]["result"])
