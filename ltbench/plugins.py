"""Discovery: entry points to components, one plugin at a time, so that a broken one harms nobody.

Knows neither torch nor any method by name; a component's class is imported when it is first resolved.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from ltbench import hookspecs
from ltbench.errors import UsageError, did_you_mean
from ltbench.hookspecs import KINDS, Component
from ltbench.specs import Spec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGINS_VARIABLE = "LTBENCH_PLUGINS"


@dataclass(frozen=True)
class Registered:
    """A component and who registered it."""

    component: Component
    kind: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Plugin:
    """One entry point: its components, and what is wrong with it, if anything."""

    name: str
    module: str
    distribution: str
    version: str
    components: tuple[Registered, ...] = ()
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Name the plugin as error messages do."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class Registry:
    """Every plugin found, and its components by kind and name; built once and passed down."""

    plugins: tuple[Plugin, ...] = ()
    index: dict[tuple[str, str], list[Registered]] = field(default_factory=dict)

    @property
    def broken(self) -> list[Plugin]:
        """Plugins with a problem, whether or not they gave components."""
        return [plugin for plugin in self.plugins if plugin.problems]

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind, sorted."""
        return sorted(name for of_kind, name in self.index if of_kind == kind)

    def components(self, kind: str | None = None) -> list[Registered]:
        """Return the components of one kind or of all, by kind and name."""
        found = [r for (of_kind, _), many in self.index.items() for r in many if kind in (None, of_kind)]
        return sorted(found, key=lambda r: (KINDS.index(r.kind), r.component.name, r.distribution))

    def find(self, kind: str, spec: Spec) -> Registered:
        """Return the one component that a spec names, or raise UsageError: unknown, or given by two plugins."""
        found = self.index.get((kind, spec.name), [])
        if spec.distribution is not None:
            given = [r.distribution for r in found]
            found = [r for r in found if r.distribution == spec.distribution]
            if given and not found:
                raise UsageError(f"{kind} {spec.name!r} is given by {', '.join(given)}, not by {spec.distribution!r}")
        if not found:
            raise UsageError(self._unknown(kind, spec))
        if len(found) > 1:
            ways = " or ".join(f"{spec.name}@{r.distribution} ({r.distribution} {r.version})" for r in found)
            raise UsageError(f"{kind} {spec.name!r} is given by {len(found)} plugins: write {ways}")
        return found[0]

    @property
    def failures(self) -> str:
        """Say which plugins failed to load."""
        names = ", ".join(f"{plugin.name} of {plugin.distribution}" for plugin in self.broken)
        return f"failed to load: {names}; see 'ltbench plugins'"

    def _unknown(self, kind: str, spec: Spec) -> str:
        """Say that a name is unknown, what is close to it, and whether plugins failed to load."""
        others = [of_kind for of_kind, name in self.index if name == spec.name and of_kind != kind]
        hint = f"; {spec.name!r} is a {others[0]}" if others else did_you_mean(spec.name, self.names(kind))
        failed = f" ({self.failures})" if self.broken else ""
        known = ", ".join(self.names(kind)) or "none: is a plugin installed?"
        return f"unknown {kind} {spec.name!r}{hint}{failed}. Known {kind}s: {known}"


def discover() -> Registry:
    """Load every plugin that ``LTBENCH_PLUGINS`` lets in (unset: all; empty: none; ``a,b``: those).

    A plugin is named by its entry point or its distribution.
    """
    import importlib.metadata

    entries = sorted(
        importlib.metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP),
        key=lambda entry: (_distribution(entry)[0], entry.name),
    )
    return register(load_plugin(entry) for entry in _allowed(entries))


def register(plugins: Iterable[Plugin]) -> Registry:
    """Build the registry; a component that its distribution has given already is a problem of the later plugin."""
    index: dict[tuple[str, str], list[Registered]] = {}
    checked = []
    for plugin in plugins:
        problems = list(plugin.problems)
        for registered in plugin.components:
            same_name = index.setdefault((registered.kind, registered.component.name), [])
            if any(other.distribution == registered.distribution for other in same_name):
                problems.append(f"{registered.kind} {registered.component.name!r} is given twice by {registered.distribution}")
            else:
                same_name.append(registered)
        checked.append(_with(plugin, plugin.components, problems))
    return Registry(tuple(checked), index)


def _allowed(entries: list[EntryPoint]) -> list[EntryPoint]:
    """Apply ``LTBENCH_PLUGINS``; an unknown name there is an error."""
    wanted = os.environ.get(PLUGINS_VARIABLE)
    if wanted is None:
        return entries
    names = {name.strip() for name in wanted.split(",") if name.strip()}
    known = {name for entry in entries for name in (entry.name, _distribution(entry)[0])}
    for name in sorted(names - known):
        raise UsageError(f"{PLUGINS_VARIABLE} names no installed plugin {name!r}{did_you_mean(name, known)}")
    return [entry for entry in entries if names & {entry.name, _distribution(entry)[0]}]


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    """Return the name and version of the distribution that an entry point comes from."""
    found = (entry.dist.name, entry.dist.version) if entry.dist is not None else (None, None)
    return found[0] or "unknown", found[1] or "unknown"  # metadata may be missing or damaged


def load_plugin(entry: EntryPoint) -> Plugin:
    """Import one entry point and call its hooks; every failure becomes a problem of this plugin alone."""
    distribution, version = _distribution(entry)
    plugin = Plugin(entry.name, entry.value, distribution, version)
    try:
        module = entry.load()
    except (Exception, SystemExit) as error:  # a mismatched torchvision raises RuntimeError, a script SystemExit
        return _with(plugin, problems=[f"cannot be imported: {_cause(error)}"])
    return _call_hooks(plugin, module)


def _call_hooks(plugin: Plugin, module: object) -> Plugin:
    """Register one module with a manager of its own, and collect what each of its hooks returns."""
    manager = pluggy.PluginManager("ltbench")
    manager.add_hookspecs(hookspecs)
    problems: list[str] = []
    try:
        manager.register(module)
    except (Exception, SystemExit) as error:
        return _with(plugin, problems=[f"cannot be registered: {_cause(error)}"])
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        problems += [_unknown_hook(name) for name in _unknown_hooks(manager, module)]
    components: list[Registered] = []
    for kind in KINDS:
        hook = getattr(manager.hook, f"ltbench_{kind}s")
        try:
            lists = hook()
            returned = [item for items in lists for item in items]
        except (Exception, SystemExit) as error:
            problems.append(f"hook ltbench_{kind}s failed: {_cause(error)}")
            continue
        if len(lists) < len(hook.get_hookimpls()):  # pluggy leaves None out
            problems.append(f"hook ltbench_{kind}s returned None, it must return a list of ltbench.Component")
        good, bad = _sift(kind, returned, plugin)
        components += good
        problems += bad
    if not components and not problems:
        problems.append("implements no hook: decorate functions with @ltbench.hookimpl")
    return _with(plugin, components, problems)


def _sift(kind: str, returned: list[object], plugin: Plugin) -> tuple[list[Registered], list[str]]:
    """Part the components a hook returned from what is none, and from names given twice."""
    good: dict[str, Registered] = {}
    bad: list[str] = []
    for item in returned:
        if not isinstance(item, Component):
            bad.append(f"hook ltbench_{kind}s returned {item!r:.80}, which is no ltbench.Component")
        elif item.name in good:
            bad.append(f"hook ltbench_{kind}s returned two components named {item.name!r}")
        else:
            good[item.name] = Registered(item, kind, plugin.distribution, plugin.version)
    return list(good.values()), bad


def _unknown_hooks(manager: pluggy.PluginManager, module: object) -> list[str]:
    """Return the functions a module marked as hooks that ltbench does not call."""
    known = {f"ltbench_{kind}s" for kind in KINDS}
    marked = [name for name in dir(module) if manager.parse_hookimpl_opts(module, name) is not None]
    return [name for name in marked if name not in known]


def _unknown_hook(name: str) -> str:
    """Name a misspelt hook."""
    known = [f"ltbench_{kind}s" for kind in KINDS]
    return f"implements unknown hook {name!r}{did_you_mean(name, known)}; hooks are {', '.join(known)}"


def _cause(error: BaseException) -> str:
    """Describe an exception in one line: type, message, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + place


def _with(plugin: Plugin, components: Iterable[Registered] = (), problems: Iterable[str] = ()) -> Plugin:
    """Return the plugin with what was found."""
    return Plugin(plugin.name, plugin.module, plugin.distribution, plugin.version, tuple(components), tuple(problems))
