"""A small language for random effects: `genetic + genetic:smoking + microbiome + spatial(lat, lon) + residual:batch`.

    formula  =  term { "+" term }
    term     =  effect [ ":" column ]             an effect, or its interaction with a column of the environment table
    effect   =  name [ "(" item { "," item } ")" ]
    item     =  word | name "=" word

What the names mean is settled by the tables that are given, in `biolmm.components.build`; residual noise is always there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from biolmm.errors import ParameterError

_TOKEN = re.compile(r"\s*(?:([A-Za-z0-9_.\-]+)|([+:(),=])|(\S))")
_EXAMPLE = "Write, for example, 'genetic + genetic:smoking + spatial(lat, lon)'."


@dataclass(frozen=True)
class Effect:
    """One term of a formula.

    Attributes
    ----------
    name
        `genetic`, `family`, the name of a table, …
    items
        Words between the parentheses.
    options
        Those with a value.
    by
        The column of the environment that the effect interacts with, or None.
    """

    name: str
    items: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    by: str | None = None

    def __str__(self) -> str:
        """Write it as in a formula."""
        inside = ", ".join([*self.items, *(f"{key}={value}" for key, value in self.options.items())])
        return self.name + (f"({inside})" if inside else "") + (f":{self.by}" if self.by else "")


@dataclass(frozen=True)
class Formula:
    """The random effects of a model.

    Attributes
    ----------
    effects
        In the order of the formula, without the residual noise that is always there.
    """

    effects: tuple[Effect, ...]

    def __post_init__(self) -> None:
        if not self.effects:
            raise ParameterError(f"The formula has no term. {_EXAMPLE}")
        texts = [str(effect) for effect in self.effects]
        repeated = [text for text in texts if texts.count(text) > 1]
        if repeated:
            raise ParameterError(f"The formula has '{repeated[0]}' {len(repeated)} times: once will do.")

    def __str__(self) -> str:
        """Write it as it was read."""
        return " + ".join(str(effect) for effect in self.effects)


def parse_formula(text: str) -> Formula:
    """Read a formula.

    Raises
    ------
    ParameterError
        When it cannot be understood, with the place.

    Examples
    --------
    >>> formula = parse_formula("genetic(maf) + genetic:smoking + spatial(lat, lon, range=50)")
    >>> [effect.name for effect in formula.effects], formula.effects[1].by, formula.effects[2].options
    (['genetic', 'genetic', 'spatial'], 'smoking', {'range': '50'})
    """
    return _Parser(text).formula()


class _Parser:
    """Reads one token after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(match[1] or match[2] or match[3], match.end()) for match in _TOKEN.finditer(text)]
        self.at = 0

    def formula(self) -> Formula:
        """Read everything."""
        effects = [self._term()]
        while self._next() == "+":
            self.at += 1
            effects.append(self._term())
        if self.at < len(self.tokens):
            self._fail("'+' or the end")
        plain = tuple(effect for effect in effects if str(effect) != "residual")
        return Formula(plain)

    def _term(self) -> Effect:
        name = self._name()
        items: list[str] = []
        options: dict[str, str] = {}
        if self._next() == "(":
            self.at += 1
            while True:
                word = self._name()
                if self._next() == "=":
                    self.at += 1
                    options[word] = self._name()
                else:
                    items.append(word)
                if self._next() not in (",", ")"):
                    self._fail("',' or ')'")
                self.at += 1
                if self.tokens[self.at - 1][0] == ")":
                    break
        by = None
        if self._next() == ":":
            self.at += 1
            by = self._name()
        return Effect(name, tuple(items), options, by)

    def _next(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _name(self) -> str:
        found = self._next()
        if not re.fullmatch(r"[A-Za-z0-9_.\-]+", found):
            self._fail("a name")
        self.at += 1
        return found

    def _fail(self, expected: str) -> None:
        """Say what was found instead, and where."""
        if self.at >= len(self.tokens):
            raise ParameterError(f"the formula '{self.text}' ends where {expected} should be. {_EXAMPLE}")
        found, end = self.tokens[self.at]
        marked = f"{self.text[: end - len(found)]}⟨{found}⟩{self.text[end:]}"
        raise ParameterError(f"the formula has '{found}' where {expected} should be: '{marked}'. {_EXAMPLE}")
