"""Presets: a mapping in params.yaml with the key `preset: NAME` takes what workflow/presets/NAME.yaml says.

The mapping's other keys win over the preset's, mapping by mapping; lists and plain values are replaced whole. A preset
may itself name presets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dacsm.config.validation import Key
from dacsm.config.yaml_file import read_yaml
from dacsm.runtime.errors import InputError

PRESETS = Path("workflow/presets")
PRESET = "preset"


def preset_names() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


class Presets:
    """Resolves presets, and remembers which file each key came from, for messages."""

    def __init__(self, name: str | Path) -> None:
        self.name = name  # of the file with the settings
        self._origins: dict[Key, str | Path] = {}
        self._contents: dict[str, Any] = {}  # of the presets read so far

    def resolve(self, content: Any) -> Any:
        """`content` with each preset replaced by what it stands for; raises InputError for one that cannot be used."""
        return self._resolve(content, self.name, (), (), ())

    def origin(self, key: Key) -> str | Path:
        """The file that says what is at `key` of the settings, or, where nothing is, at what it would be in."""
        known = (key[:length] for length in range(len(key), 0, -1))
        return next((self._origins[part] for part in known if part in self._origins), self.name)

    def _resolve(self, content: Any, file: str | Path, inside: Key, place: Key, opened: tuple[str, ...]) -> Any:
        """`content` is at the key `inside` of `file`, and goes to the key `place` of the settings."""
        if isinstance(content, list):
            return [
                self._resolve(value, file, (*inside, index), (*place, index), opened)
                for index, value in enumerate(content)
            ]
        if not isinstance(content, Mapping):
            self._origins[place] = file
            return content
        base = self._open(content[PRESET], file, (*inside, PRESET), place, opened) if PRESET in content else {}
        self._origins[place] = file  # a key that is missing is added here
        own = {
            key: self._resolve(value, file, (*inside, key), (*place, key), opened)
            for key, value in content.items()
            if key != PRESET
        }
        return _merged(base, own)

    def _open(self, name: Any, file: str | Path, inside: Key, place: Key, opened: tuple[str, ...]) -> dict[str, Any]:
        """The content of the preset that `file` names at the key `inside`."""
        key = ".".join(map(str, inside))
        if name not in preset_names():
            known = ", ".join(preset_names()) or f"none (is {PRESETS} there?)"
            raise InputError(f"{file}: {key} is {name!r}, expected one of {known}; change it there.")
        if name in opened:
            circle = " to ".join((*opened[opened.index(name) :], name))
            raise InputError(
                f"{file}: {key} is {name!r}, and so presets go in a circle, {circle}; "
                f"name another of {', '.join(preset_names())}."
            )
        path = PRESETS / f"{name}.yaml"
        content = self._contents[name] if name in self._contents else read_yaml(path)
        if not isinstance(content, Mapping):
            raise InputError(f"{path} is {content!r}, but a preset is a mapping of settings; write some into it.")
        self._contents[name] = content
        return self._resolve(content, path, (), place, (*opened, name))


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `own` laid over it."""
    both = {
        key: _merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in own.items()
    }
    return {**base, **both}
