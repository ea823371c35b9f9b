"""Reading a METAL script into a plan, without looking at any file but the scripts.

METAL answers a line that it cannot use with one line among thousands and goes on with what was set before. Here such a line
is an error that names it and says what METAL would have taken; `as_metal` makes it a warning, and goes on like METAL. A
refused line that would have changed nothing (`SCHEME STDERR` again before the second file) is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from biolmm.errors import InputFileError
from biolmm.sumstats.metal.language import USAGE, Keyword, begins, meanings, spelling_of
from biolmm.sumstats.metal.settings import (
    Analyse,
    Clear,
    Filter,
    GenomicControl,
    Operator,
    ProcessFile,
    Separator,
    Settings,
    Step,
)

_MOST_SOURCED = 16
_OPERATORS: dict[str, Operator] = {
    ">": ">", ">=": ">=", "<": "<", "<=": "<=", "=": "==", "==": "==", "IS": "==", "!=": "!=", "<>": "!=", "ISNOT": "!=",
    "IN": "in",
}  # fmt: skip
_SEPARATORS: dict[str, Separator] = {"WHITESPACE": "whitespace", "COMMAS": "comma", "TABS": "tab", "BOTH": "both"}
_COLUMNS = {
    "WEIGHTLABEL": "weight", "MARKERLABEL": "marker", "PVALUELABEL": "pvalue", "EFFECTLABEL": "effect", "FREQLABEL": "freq",
    "STDERRLABEL": "stderr", "STRANDLABEL": "strand", "CHROMOSOMELABEL": "chromosome", "POSITIONLABEL": "position",
}  # fmt: skip
_SWITCHES = {"LOGPVALUE": "log_pvalue", "USESTRAND": "use_strand", "AVERAGEFREQUENCY": "average_freq",
             "MINMAXFREQUENCY": "min_max_freq", "TRACKPOSITIONS": "track_positions"}  # fmt: skip
_NUMBERS = {"DEFAULTWEIGHT": "default_weight", "MINWEIGHT": "min_weight", "ZCUTOFF": "z_cutoff"}
_COUNTS = {"MAXWARNINGS": "max_warnings", "EFFECT_PRINT_PRECISION": "effect_precision",
           "STDERR_PRINT_PRECISION": "stderr_precision"}  # fmt: skip
_BEFORE_FILES = ("AVERAGEFREQUENCY", "MINMAXFREQUENCY", "TRACKPOSITIONS", "SCHEME")
_MOST_DIGITS = 30


@dataclass(frozen=True)
class Refusal:
    """A line that METAL ignores, where it is, and what to write."""

    place: str
    text: str
    remedy: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.place}: METAL ignores {self.text!r}; {self.remedy}"


@dataclass(frozen=True)
class Plan:
    """What a script does: steps in order, and the lines that METAL ignores."""

    path: Path
    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]

    @property
    def files(self) -> list[ProcessFile]:
        """The files that are read, in order."""
        return [step for step in self.steps if isinstance(step, ProcessFile)]


def read_script(path: Path, *, as_metal: bool = False) -> Plan:
    """Read a script.

    Parameters
    ----------
    path
        The script; names of files in it are relative to the working folder, as in METAL.
    as_metal
        Keep the lines that METAL ignores in the plan's `refusals`, instead of raising.

    Raises
    ------
    InputFileError
        When a script cannot be read, sources itself, holds lines that METAL ignores, or never analyses a file.
    """
    reader = _Script(path)
    reader.run(path, 0)
    plan = Plan(path, tuple(reader.steps), tuple(reader.refusals))
    if plan.refusals and not as_metal:
        more = len(plan.refusals) - 1
        others = f" {more} more such line{'s' * (more > 1)}: {_places(plan.refusals[1:])}." if more else ""
        raise InputFileError(f"{plan.refusals[0]}.{others} With --as-metal such lines are left out.")
    for kind, word in ((ProcessFile, "PROCESS"), (Analyse, "ANALYZE")):
        if not any(isinstance(step, kind) for step in plan.steps):
            raise InputFileError(f"{path} has no {word} line, so there is nothing to do; add one.")
    return plan


def _places(refusals: Sequence[Refusal], most: int = 5) -> str:
    shown = ", ".join(each.place.rpartition("line ")[2] for each in refusals[:most])
    return shown + (", …" if len(refusals) > most else "")


@dataclass
class _Script:
    """The state of METAL while it reads commands."""

    path: Path
    settings: Settings = field(default_factory=Settings)
    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    in_progress: bool = False
    round: int = 1
    place: str = ""
    text: str = ""
    ended: bool = False

    def run(self, path: Path, depth: int) -> None:
        """Carry out the lines of a script, and of those that it sources."""
        if depth > _MOST_SOURCED:
            raise InputFileError(
                f"{self.place}: scripts source each other more than {_MOST_SOURCED} deep; is it a circle?"
            )
        try:
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError as error:
            where = f"{self.place}: " if self.place else ""
            raise InputFileError(f"{where}the script {path} cannot be read: {error.strerror or error}.") from None
        for number, text in enumerate(lines, 1):
            words = text.split()
            if not words or words[0].startswith("#"):
                continue
            self.place, self.text = f"{path}, line {number}", text.strip()
            if self._line(words, depth):
                return

    def _line(self, words: list[str], depth: int) -> bool:
        """Carry out one line; tell whether the script ends here."""
        known = meanings(words[0])
        for keyword in known:
            if len(words) > keyword.n_words and (done := self._command(keyword, words, depth)) is not None:
                return done
        if not known:
            usual = spelling_of(words[0])
            meant = f"write {usual}" if usual else "it is no command of METAL's"
            if usual and words[0].upper() == usual:
                meant = f"write {USAGE.get(usual, usual)}"
            self._refuse(meant)
        else:
            keyword = known[0]
            with_words = (
                "a name" if keyword.name in _COLUMNS else "ON or OFF" if keyword.name in _SWITCHES else "a value"
            )
            self._refuse(f"write {USAGE.get(keyword.name, f'{keyword.usual} and {with_words}')}")
        return False

    def _refuse(self, remedy: str) -> None:
        self.refusals.append(Refusal(self.place, self.text, remedy))

    def _set(self, **changes: object) -> None:
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

    def _command(self, keyword: Keyword, words: list[str], depth: int) -> bool | None:
        """Carry out a command; None where what follows the keyword is of no use, so that METAL tries the next one."""
        name = keyword.name
        if name in ("QUIT", "EXIT"):
            self.ended = True
            return True
        if name == "RETURN":
            return True
        if name in ("HELP", "VERBOSE"):
            return False
        if name == "SOURCE":
            self.run(Path(words[1]), depth + 1)
            return self.ended
        if name in _COLUMNS:
            self._set(**{_COLUMNS[name]: words[1]})
        elif name in _SWITCHES:
            return self._switch(name, words[1])
        elif name in _NUMBERS or name in _COUNTS:
            self._number(name, words[1])
        else:
            handlers: dict[str, Callable[[list[str]], bool | None]] = {
                "ANALYZE": self._analyse, "ANALYSE": self._analyse, "CLEAR": self._clear, "FLIP": self._flip,
                "REMOVEFILTERS": self._remove_filters, "COLUMNCOUNTING": self._counting, "CUSTOMVARIABLE": self._custom,
                "GENOMICCONTROL": self._genomic_control, "SCHEME": self._scheme, "SEPARATOR": self._separator,
                "PROCESSFILE": self._process, "OVERLAP": self._overlap, "ALLELELABELS": self._alleles,
                "OUTFILE": self._outfile, "ADDFILTER": self._filter, "LABEL": self._label,
            }  # fmt: skip
            return handlers[name](words)
        return False

    def _analyse(self, words: list[str]) -> bool:
        heterogeneity = len(words) > 1 and begins(words[1], "HETEROGENEITY")
        if len(words) > 1 and not heterogeneity and not words[1].startswith("#"):
            self._refuse(f"write {USAGE['ANALYZE']} (METAL would analyse without heterogeneity)")
        name = f"{self.settings.prefix}{self.round}{self.settings.suffix}"
        self.round += 1
        self.steps.append(Analyse(heterogeneity, name, self.settings, self.place))
        return False

    def _clear(self, _: list[str]) -> bool:
        self.steps.append(Clear())
        self.in_progress = False
        self._set(filters=(), custom=())
        return False

    def _flip(self, _: list[str]) -> bool:
        self._set(flip=not self.settings.flip)
        return False

    def _remove_filters(self, _: list[str]) -> bool:
        self._set(filters=())
        return False

    def _counting(self, words: list[str]) -> bool | None:
        for word, strict in (("STRICT", True), ("LENIENT", False)):
            if begins(words[1], word):
                self._set(strict=strict)
                return False
        return None

    def _custom(self, words: list[str]) -> bool:
        known = [variable for variable, _ in self.settings.custom]
        if words[1].upper() in [each.upper() for each in known]:
            return False
        if self.in_progress:
            self._refuse("write it before the first PROCESS, or after CLEAR")
        else:
            self._set(custom=(*self.settings.custom, (words[1], words[1])))
        return False

    def _switch(self, name: str, word: str) -> bool | None:
        on = word.upper() == "ON"
        if not on and not (len(word) > 1 and begins(word, "OFF")):
            return None
        self._change(name, **{_SWITCHES[name]: on})
        return False

    def _change(self, name: str, **changes: object) -> None:
        """Change a setting; some only before files are read."""
        changed = any(getattr(self.settings, each) != value for each, value in changes.items())
        if changed and self.in_progress and name in _BEFORE_FILES:
            self._refuse("write it before the first PROCESS (and before GENOMICCONTROL LIST), or after CLEAR")
        else:
            self._set(**changes)

    def _number(self, name: str, word: str) -> None:
        """Set a number; METAL reads a word that is none as 0."""
        try:
            value = float(word)
        except ValueError:
            self._refuse(f"{word!r} is no number")
            return
        if name in _NUMBERS:
            self._set(**{_NUMBERS[name]: value})
        elif not 0 <= value <= _MOST_DIGITS and "PRECISION" in name:
            self._refuse(f"{word} digits cannot be printed, give 0 to {_MOST_DIGITS}")
        else:
            self._set(**{_COUNTS[name]: int(value)})

    def _genomic_control(self, words: list[str]) -> bool | None:
        word = words[1]
        if word.upper() == "ON":
            found = GenomicControl(on=True)
        elif len(word) > 1 and begins(word, "OFF"):
            found = GenomicControl()
        elif begins(word, "LIST") and len(words) == 3:
            found = GenomicControl(on=True, markers=Path(words[2]))
            self.in_progress = True  # METAL enters the list's markers among those that it has read
        else:
            try:
                value = float(word)
            except ValueError:
                return None
            if not value > 0:
                return None
            found = GenomicControl(on=True, value=value)
        self._set(genomic_control=found)
        return False

    def _scheme(self, words: list[str]) -> bool | None:
        if len(words[1]) > 1 and begins(words[1], "SAMPLESIZE"):
            self._change("SCHEME", scheme="samplesize")
        elif len(words[1]) > 1 and begins(words[1], "STDERR"):
            if self.settings.overlap:
                self._refuse("OVERLAP is for SCHEME SAMPLESIZE: write OVERLAP OFF before")
            else:
                self._change("SCHEME", scheme="stderr")
        else:
            return None
        return False

    def _separator(self, words: list[str]) -> bool | None:
        for name, separator in _SEPARATORS.items():
            if begins(words[1], name):
                self._set(separator=separator)
                return False
        return None

    def _process(self, words: list[str]) -> bool:
        self.steps.append(ProcessFile(Path(words[1]), words[1], self.settings, self.place))
        self.in_progress = True
        return False

    def _overlap(self, words: list[str]) -> bool | None:
        if words[1].upper() == "ON":
            if self.settings.scheme == "stderr":
                self._refuse("OVERLAP is for SCHEME SAMPLESIZE")
            else:
                self._set(overlap=True)
        elif len(words[1]) > 1 and begins(words[1], "OFF"):
            self._set(overlap=False)
        else:
            return None
        return False

    def _alleles(self, words: list[str]) -> bool:
        self._set(allele1=words[1], allele2=words[2])
        return False

    def _outfile(self, words: list[str]) -> bool:
        self.round = 1
        self._set(prefix=words[1], suffix=words[2])
        return False

    def _filter(self, words: list[str]) -> bool:
        operator = _OPERATORS.get(words[2].upper())
        if len(words) != 4:
            self._refuse(f"write {USAGE['ADDFILTER']}, with nothing after it")
        elif operator is None:
            self._refuse(f"the condition {words[2]!r} is none of < > <= >= = != IS ISNOT IN")
        elif operator == "in":
            if not (words[3].startswith("(") and words[3].endswith(")")):
                self._refuse("write values of IN in brackets, such as (A,B), without blanks")
            else:
                members = tuple(each for each in words[3].strip("()").split(",") if each)
                self._set(filters=(*self.settings.filters, Filter(words[1], "in", words=members)))
        else:
            value = _leading_number(words[3])
            if value is None:
                self._refuse(
                    f"{words[3]!r} must be a number that begins with a digit or a sign, or write IN ({words[3]})"
                )
            else:
                self._set(filters=(*self.settings.filters, Filter(words[1], operator, value)))
        return False

    def _label(self, words: list[str]) -> bool | None:
        if not begins(words[2], "AS"):
            return None
        known = [variable.upper() for variable, _ in self.settings.custom]
        if words[1].upper() not in known:
            self._refuse(f"there is no CUSTOMVARIABLE {words[1]} (CLEAR removes them)")
            return False
        at = known.index(words[1].upper())
        custom = list(self.settings.custom)
        custom[at] = (custom[at][0], words[3])
        self._set(custom=tuple(custom))
        return False


def _leading_number(word: str) -> float | None:
    """Read the value of a filter: a number that begins with a digit or a sign."""
    if not (word[0].isdigit() or word[0] in "+-"):
        return None
    try:
        return float(word)
    except ValueError:
        return None
