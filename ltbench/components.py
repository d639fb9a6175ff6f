"""From a spec to a checked instance: imports the class, checks every parameter, and names its identity.

The only place that builds plugin objects; knows no method by name.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltbench import contract
from ltbench.config import PLAIN
from ltbench.errors import UsageError, did_you_mean
from ltbench.keys import code_hash
from ltbench.parameters import MISSING, Parameter, conform, fields_of
from ltbench.plugins import Registered, Registry
from ltbench.specs import Choice, Select, Spec, Value, parse_spec

_CONTRACTS: dict[str, tuple[type, ...]] = {
    "dataset": (contract.DatasetComponent,),
    "backbone": (contract.BackboneComponent,),
    "transform": (contract.TransformComponent,),
    "generator": (contract.GeneratorComponent,),
    "classifier": (contract.ClassifierComponent, contract.LossComponent, contract.PostHocComponent),
}


TEMPERATURE = "temperature"
"""The parameter of every classifier that ltbench itself reads, as it reads a generator's budget."""


@dataclass(frozen=True)
class Resolved:
    """A component with its parameters: checked, named canonically, and ready to be built.

    ``select`` holds the candidates of parameters that are chosen on selection rows; ``params`` has their first.
    ``temperature``: the head's logits are divided by one that is fitted on selection rows.
    """

    registered: Registered
    target: type
    rest: str | None
    params: Mapping[str, Any]
    select: Mapping[str, tuple[Any, ...]]
    canonical: str
    temperature: bool = False

    @property
    def kind(self) -> str:
        """The component's kind."""
        return self.registered.kind

    def build(self, **chosen: Any) -> Any:
        """Build the instance, with chosen values for selected parameters."""
        return _build(self, {**self.params, **chosen})

    def identity(self) -> Mapping[str, Any]:
        """Return what names this component in a key: parameters with defaults, code, and library versions."""
        return self._identity

    @functools.cached_property
    def _identity(self) -> dict[str, Any]:
        """The identity, found once: every cell asks for it."""
        component = self.registered.component
        return {
            "name": component.name if self.rest is None else f"{component.name}:{self.rest}",
            "distribution": self.registered.distribution,
            "params": {key: _plain(value) for key, value in sorted(self.params.items()) if self._tells(key)}
            | ({TEMPERATURE: True} if self.temperature else {}),
            "select": {key: list(values) for key, values in sorted(self.select.items())},
            **self._code,
        }

    @functools.cached_property
    def anonymous(self) -> str:
        """The canonical name without paths: where a file lies cannot change a result."""
        spec = parse_spec(self.canonical)
        return str(spec.with_params({key: value for key, value in spec.params if not isinstance(self.params[key], Path)}))

    def _tells(self, name: str) -> bool:
        """Whether a parameter can change a result and is not chosen in the cell; what a file holds, its hash tells."""
        return name not in self.select and not isinstance(self.params[name], Path)

    @functools.cached_property
    def _code(self) -> dict[str, Any]:
        """The part of the identity that takes reading files."""
        requires = sorted(self.registered.component.requires)
        return {
            "code": code_hash(self.target.__module__),
            "class": self.target.__qualname__,
            "requires": {name: _version(name, self) for name in requires},
        }


def parameters(registered: Registered) -> list[Parameter]:
    """Return a component's hyper-parameters with types and defaults, importing its class."""
    target = import_target(registered)
    bound = registered.component.params
    try:
        found = fields_of(target)
    except (NameError, TypeError) as error:
        raise UsageError(f"{_owner(registered)}: the types of {target.__name__} cannot be read: {error}") from None
    stray = set(bound) - {parameter.name for parameter in found}
    if stray:
        raise UsageError(
            f"{_owner(registered)} binds parameters that {target.__name__} does not have: {', '.join(sorted(stray))}"
        )
    hidden = {"name"} if registered.component.family else set()
    return [Parameter(p.name, p.annotation, bound.get(p.name, p.default)) for p in found if p.name not in hidden]


def resolve(registry: Registry, kind: str, spec: Spec | str, defaults: Mapping[str, Value] | None = None) -> Resolved:
    """Check one component and all its parameters; ``defaults`` fill parameters it has and the user left out."""
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    registered = registry.find(kind, _own(registry, kind, spec))
    family = registered.component.family
    if family and spec.rest is None:
        raise UsageError(f"{kind} {spec.name!r} is a family: write {spec.name}:<name>")
    if spec.rest is not None and not family:
        raise UsageError(f"{kind} {spec.name!r} is no family: write {spec.name}, without ':{spec.rest}'")
    known = {parameter.name: parameter for parameter in parameters(registered)}
    spec, tempered = _tempered(kind, spec, known)
    given = dict(spec.params)
    for name in given:
        if name not in known:
            raise UsageError(f"{_owner(registered)} has no parameter {name!r}{_takes(name, known)}")
    filled = {k: v for k, v in (defaults or {}).items() if k in known and k not in given}
    ambiguous = len(registry.index[kind, spec.name]) > 1 and PLAIN.get((kind, spec.name)) != registered.distribution
    named = dataclasses.replace(spec, distribution=registered.distribution if ambiguous else None)
    resolved = _checked(registered, named, known, {**filled, **given}, defaults or {})
    _trial(resolved)
    resolved.identity()  # a required library that is not installed is a mistake to find now
    if not tempered:
        return resolved
    canonical = parse_spec(resolved.canonical)
    canonical = canonical.with_params({**dict(canonical.params), TEMPERATURE: True})
    return dataclasses.replace(resolved, canonical=str(canonical), temperature=True)


def _tempered(kind: str, spec: Spec, known: Mapping[str, Parameter]) -> tuple[Spec, bool]:
    """Part a classifier's own parameters from ``temperature``; a component that has one itself keeps it."""
    given = dict(spec.params)
    if kind != "classifier" or TEMPERATURE in known or TEMPERATURE not in given:
        return spec, False
    wanted = given.pop(TEMPERATURE)
    if not isinstance(wanted, bool):
        raise UsageError(f"classifier {spec}: {TEMPERATURE} must be true or false, whether one is fitted on selection rows")
    return spec.with_params(given), wanted


def _own(registry: Registry, kind: str, spec: Spec) -> Spec:
    """Let a protocol's own names stand for the protocol's own components, should another plugin give them, too."""
    own = PLAIN.get((kind, spec.name))
    found = [each.distribution for each in registry.index.get((kind, spec.name), [])]
    return (
        dataclasses.replace(spec, distribution=own) if spec.distribution is None and len(found) > 1 and own in found else spec
    )


def _checked(
    registered: Registered,
    spec: Spec,
    known: Mapping[str, Parameter],
    given: Mapping[str, Value],
    defaults: Mapping[str, Value],
) -> Resolved:
    """Check every value against its type, and split selected parameters from plain ones.

    The canonical name leaves out what equals the class's default, unless a protocol would fill it otherwise, and the
    folders of paths: ``folder[path=birds]`` is the same data wherever it lies.
    """
    params: dict[str, Any] = {}
    select: dict[str, tuple[Any, ...]] = {}
    for name, parameter in known.items():
        value = given.get(name, parameter.default)
        if value is MISSING:
            raise UsageError(f"{_owner(registered)} needs the parameter {name!r}; it takes {_names(known)}")
        if isinstance(value, Choice):
            raise UsageError(f"{_owner(registered)}: {name}={value} must be expanded first")
        if isinstance(value, Select):
            select[name] = tuple(_conform(registered, parameter, v) for v in value.values)
            params[name] = select[name][0]
        else:
            params[name] = _conform(registered, parameter, value)
    named = {k: Select(select[k]) if k in select else params[k] for k, _ in spec.params}
    told = {k: v for k, v in named.items() if k in select or k in defaults or v != known[k].default}
    told = {k: v.name if isinstance(v, Path) else v for k, v in told.items()}
    return Resolved(registered, import_target(registered), spec.rest, params, select, str(spec.with_params(told)))


def _trial(resolved: Resolved) -> None:
    """Build the instance once for each selected value, so that a class's own checks speak while planning."""
    for name, values in resolved.select.items():
        for value in values:
            resolved.build(**{name: value})
    instance = resolved.build()
    contracts = _CONTRACTS[resolved.kind]
    if not isinstance(instance, contracts):
        wants = " or ".join(f"{contract.__name__} ({contract.__doc__})" for contract in contracts)
        raise UsageError(f"{_owner(resolved.registered)}: class {resolved.target.__name__} must be a {wants}")


def _build(resolved: Resolved, params: Mapping[str, Any]) -> Any:
    """Call the class; its ValueError is a user's mistake, anything else the plugin's."""
    family = {"name": resolved.rest} if resolved.registered.component.family else {}
    try:
        return resolved.target(**family, **params)
    except (ValueError, UsageError) as error:
        raise UsageError(f"{_owner(resolved.registered)}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{_owner(resolved.registered)} cannot be built: {type(error).__name__}: {error}") from error


def import_target(registered: Registered) -> type:
    """Import the class a component names, and check that it is a frozen, keyword-only dataclass."""
    module, _, name = registered.component.target.partition(":")
    try:
        target = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{_owner(registered)}: cannot import {registered.component.target}: {cause}") from error
    params = getattr(target, "__dataclass_params__", None)
    keyword_only = params is not None and all(f.kw_only for f in dataclasses.fields(target) if f.init)
    if not isinstance(target, type) or params is None or not params.frozen or not keyword_only:
        raise UsageError(f"{_owner(registered)}: {registered.component.target} must be a @dataclass(frozen=True, kw_only=True)")
    return target


def _conform(registered: Registered, parameter: Parameter, value: Any) -> Any:
    """Return a value as its annotated type, or raise UsageError with what is accepted."""
    try:
        return conform(parameter.annotation, value)
    except ValueError as error:
        raise UsageError(f"{_owner(registered)}: {parameter.name} {error}") from None


def _owner(registered: Registered) -> str:
    """Name a component with its distribution, as error messages do."""
    return f"{registered.kind} {registered.component.name!r} ({registered.distribution} {registered.version})"


def _takes(name: str, known: Mapping[str, Parameter]) -> str:
    """List the accepted parameters."""
    return f"{did_you_mean(name, known)}; it takes {_names(known)}"


def _names(known: Mapping[str, Parameter]) -> str:
    """List parameters by name."""
    return ", ".join(sorted(known)) or "none"


def _plain(value: Any) -> Any:
    """Return a parameter as JSON can hold it."""
    return list(value) if isinstance(value, tuple) else value


def _version(distribution: str, resolved: Resolved) -> str:
    """Return an installed library's version."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"{_owner(resolved.registered)} requires {distribution}, which is not installed") from None
