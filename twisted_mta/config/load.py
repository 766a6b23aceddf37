"""From YAML text to frozen classes, with every error at its line and column.

It knows no setting by name: L{twisted_mta.config.schema} does. A L{Document} is
YAML as plain data together with the mark of each node; L{structure} makes a
class of a part of it. Nothing is coerced, unknown settings are errors, and all
errors are told at once.
"""

import copy
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs
import yaml
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)

from twisted_mta.config import units
from twisted_mta.errors import ConfigError

T = TypeVar("T")

Where = tuple[str | int, ...]
Problem = tuple[Where, str]


class Document:
    """A configuration file: its data and where each part of it stands.

    @ivar data: mappings, sequences and scalars.
    """

    def __init__(self, name: str, data: Any, marks: Mapping[Where, yaml.Mark]) -> None:
        self.name = name
        self.data = data
        self._marks = marks

    def without(
        self, parts: Iterable[Where], stand_ins: Mapping[str, Any]
    ) -> "Document":
        """The same without some settings; of a list nothing is left, so that no
        element changes its number.

        @param stand_ins: what takes the place of settings that must be there.
        """
        data = copy.deepcopy(self.data)
        for where in parts:
            while where and isinstance(where[-1], int):
                where = where[:-1]
            inner: Any = data
            for step in where[:-1]:
                inner = inner.get(step, {}) if isinstance(step, str) else inner[step]
            if where:
                inner.pop(where[-1], None)
        return Document(self.name, {**stand_ins, **data}, self._marks)

    def problems(self, found: Iterable[Problem]) -> list[str]:
        """Many L{problem}s, in the order of the file."""
        return [self.problem(*one) for one in sorted(found, key=self._position)]

    def _position(self, found: Problem) -> tuple[int, int]:
        mark = self._mark(found[0])
        return (mark.line, mark.column) if mark else (0, 0)

    def _mark(self, where: Where) -> yaml.Mark | None:
        while where and where not in self._marks:
            where = where[:-1]
        return self._marks.get(where)

    def problem(self, where: Where, text: str) -> str:
        """C{FILE:line:column: path: what; what to do}."""
        mark = self._mark(where)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        path = f"{dotted(where)}: " if where else ""
        return f"{self.name}:{line}:{column}: {path}{text}"


def dotted(where: Where) -> str:
    """C{("listeners", 0, "tls")} as C{listeners[0].tls}."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read(name: str, text: str) -> Document:
    """Parse YAML.

    @param name: the file's name in errors.
    @raise ConfigError: it is not YAML, or a setting stands twice.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise ConfigError(
            [f"{name}:{at}: {error.problem or error.context}; mend the YAML"]
        )
    except yaml.YAMLError as error:
        raise ConfigError(
            [f"{name}:1:1: {' '.join(str(error).split())}; mend the YAML"]
        )
    marks: dict[Where, yaml.Mark] = {}
    problems: list[Problem] = []
    data = {} if node is None else _plain(loader, node, (), marks, problems)
    document = Document(name, data, marks)
    if problems:
        raise ConfigError(document.problems(problems))
    return document


def _plain(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    where: Where,
    marks: dict[Where, yaml.Mark],
    problems: list[Problem],
) -> Any:
    marks.setdefault(where, node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(loader, item, (*where, index), marks, problems)
            for index, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            at = (*where, key)
            if key in mapping:
                problems.append((at, "stands here a second time; remove one"))
            marks[at] = key_node.start_mark
            mapping[key] = _plain(loader, value_node, at, marks, problems)
        return mapping
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError):
        problems.append((where, f"cannot be read: {node.value!r}; quote it"))
        return None


def structure(
    document: Document, cls: type[T], where: Where = (), leave_out: Sequence[str] = ()
) -> T:
    """Make a class of a part of a document.

    @param where: the part.
    @param leave_out: settings of it that are not the class's.
    @raise ConfigError: all that is wrong with it.
    """
    made, found = attempt(document, cls, where, leave_out)
    if made is None:
        raise ConfigError(document.problems(found))
    return made


def attempt(
    document: Document, cls: type[T], where: Where = (), leave_out: Sequence[str] = ()
) -> tuple[T | None, list[Problem]]:
    """The same as L{structure}.

    @return: what was made, or C{None} and all that is wrong.
    """
    data = document.data
    for step in where:
        data = data[step]
    if leave_out:
        data = {name: data[name] for name in data if name not in leave_out}
    try:
        return _CONVERTER.structure(data, cls), []
    except BaseValidationError as error:
        return None, [(where + at, text) for at, text in _problems(error, ())]
    except (TypeError, ValueError) as error:
        return None, [(where, str(error))]


def _problems(error: BaseException, where: Where) -> Iterator[Problem]:
    if isinstance(error, ClassValidationError):
        for inner in error.exceptions:
            if isinstance(inner, ForbiddenExtraKeysError):
                known = [field.name for field in attrs.fields(inner.cl)]
                for name in sorted(inner.extra_fields):
                    yield (*where, name), f"no setting '{name}'; {_meant(name, known)}"
            else:
                yield from _problems(inner, where + _step(inner))
    elif isinstance(error, IterableValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, where + _step(inner))
    elif isinstance(error, KeyError):
        yield where[:-1], f"'{error.args[0]}' is missing; add it"
    else:
        yield where, str(error)


def _step(error: BaseException) -> Where:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known are {', '.join(sorted(known))}"


_SCALARS: dict[type, str] = {
    str: "must be text; quote it",
    bool: "must be true or false",
    int: "must be a whole number",
}


def _scalar(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(_SCALARS[kind])
    return value


def _choice(value: Any, kind: Any) -> Any:
    choices = typing.get_args(kind)
    if value not in choices:
        raise ValueError(f"must be one of {', '.join(map(str, choices))}")
    return value


def _many(value: Any, kind: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError("must be a list")
    item: Any = typing.get_args(kind)[0]
    if item is Any:
        return tuple(value)
    many: Any = types.GenericAlias(list, (item,))
    return tuple(_CONVERTER.structure(value, many))


def _table(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be a table of 'name: ...'")
    item = typing.get_args(kind)[1]
    if item is Any:
        return value
    problems: list[Exception] = []
    made = {}
    for name, inner in value.items():
        try:
            made[name] = _CONVERTER.structure(inner, item)
        except Exception as error:  # collected: all are told at once
            error.__notes__ = [IterableValidationNote("", name, item)]
            problems.append(error)
    if problems:
        raise IterableValidationError("table", problems, dict)
    return made


def _optional(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    (inner,) = (arm for arm in typing.get_args(kind) if arm is not types.NoneType)
    return _CONVERTER.structure(value, inner)


def _either(value: Any, kind: Any) -> Any:
    arms = typing.get_args(kind)
    if types.NoneType in arms:
        return _optional(value, kind)
    words, many = arms
    if isinstance(value, list):
        return _many(value, many)
    try:
        return _choice(value, words)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error}, or a list")


def _class(cls: type) -> Any:
    inner: Any = cattrs.gen.make_dict_structure_fn(
        cls, _CONVERTER, _cattrs_forbid_extra_keys=True
    )

    def check(value: Any, kind: Any) -> Any:
        if value is None:  # a section of which every setting is commented out
            value = {}
        if not isinstance(value, dict):
            raise ValueError("must be a table of 'setting: value'")
        return inner(value, kind)

    return check


def _is(wanted: Any) -> Callable[[Any], bool]:
    return lambda kind: kind is wanted


def _of(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: typing.get_origin(kind) is origin


def _parsed_by(parse: Callable[[object], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: parse(value)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    for kind in _SCALARS:
        converter.register_structure_hook(kind, _scalar)
    converter.register_structure_hook(
        Path, lambda value, _: Path(_scalar(value, str)).expanduser()
    )
    for newtype, parse in (
        (units.Seconds, units.seconds),
        (units.Octets, units.octets),
        (units.Rate, units.rate),
    ):
        converter.register_structure_hook_func(_is(newtype), _parsed_by(parse))
    by_origin: tuple[tuple[Any, Any], ...] = (
        (typing.Literal, _choice),
        (tuple, _many),
        (dict, _table),
        (types.UnionType, _either),
        (typing.Union, _either),
    )
    for origin, hook in by_origin:
        converter.register_structure_hook_func(_of(origin), hook)
    converter.register_structure_hook_factory(attrs.has, _class)
    return converter


_CONVERTER = _converter()
