"""A model's tokenizer: open_clip's own, or one of the hub, whose files are fetched, checked and named by their content."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

import ltbench
from ltbench_openclip.models import CONFIG, HUB, read_config, without_root_handler
from ltbench_timm import hub

FILES = (
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "config.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
"""What tokenizers of the hub are made of; each has some of them."""


@dataclass(frozen=True)
class Tokenizer:
    """Where a model's tokenizer comes from.

    ``name`` is the model's, ``text`` what its configuration says of texts. ``source`` is the repository of the
    tokenizer's files, at the model's own commit where it is the same; None for those that are part of open_clip, which
    finds them by ``own``.
    """

    name: str
    text: Mapping[str, Any]
    source: hub.HubModel | None
    own: str

    @staticmethod
    def of(name: str) -> Tokenizer:
        """Return that of a model by name; raise UsageError for one that would run code of its own."""
        if not name.startswith(HUB):
            architecture = name.partition("/")[0]
            text = open_clip.get_model_config(architecture).get("text_cfg", {})
            repo = text.get("hf_tokenizer_name")
            return Tokenizer(name, text, hub.HubModel(repo) if repo else None, architecture)
        model = hub.HubModel.parse(name.removeprefix(HUB))
        file = hub.fetch(model, [CONFIG])
        text = read_config(file, name)["model_cfg"].get("text_cfg", {})
        if "trust_remote_code" in (text.get("tokenizer_kwargs") or {}):
            raise ltbench.UsageError(
                f"{name} asks to run a tokenizer's own code (trust_remote_code): ltbench runs none, take another"
            )
        repo = text.get("hf_tokenizer_name")
        source = model.pinned(file) if repo == model.repo else hub.HubModel(repo) if repo else None
        return Tokenizer(name, text, source, f"local-dir:{file.parent}")

    def files(self) -> tuple[Path, ...]:
        """Return the files there are, of one commit, fetched if they have changed; none for open_clip's own tokenizers."""
        if self.source is None:
            return ()
        try:
            found = hub.fetch_some(self.source, FILES)
        except ltbench.LtbenchError as error:
            raise self._without_files(str(error)) from error
        if not found:
            raise self._without_files(f"hub model {self.source} holds none")
        return found

    def hashes(self) -> list[list[str]]:
        """Return the names and content hashes of the files."""
        return [[path.name, hub.content_hash(path)] for path in self.files()]

    def load(self) -> Any:
        """Build the tokenizer; raise one clear error where it needs what is not here."""
        try:
            with without_root_handler():
                return open_clip.get_tokenizer(self.own) if self.source is None else self._of_the_hub()
        except ImportError as error:
            raise ltbench.UsageError(
                f"the tokenizer of {self.name} needs the library {error.name}: pip install {error.name}, or write text=false "
                "to do without class-text vectors"
            ) from error
        except ltbench.LtbenchError:
            raise
        except Exception as error:
            raise self._without_files(f"{type(error).__name__}: {error}") from error

    def _of_the_hub(self) -> Any:
        """Build a tokenizer from its files, none of which is run."""
        importlib.import_module("transformers")  # before anything is fetched
        return open_clip.tokenizer.HFTokenizer(
            str(self.files()[0].parent),
            context_length=self.text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=self.text.get("tokenizer_mode"),
            **{**(self.text.get("tokenizer_kwargs") or {}), "trust_remote_code": False},
        )

    def _without_files(self, cause: str) -> ltbench.LtbenchError:
        """Return the error for files that cannot be had or read."""
        return ltbench.LtbenchError(
            f"the tokenizer of {self.name} needs files that cannot be fetched; run once with a network, or write text=false to "
            f"do without class-text vectors: {' '.join(cause.split())[:300]}"
        )
