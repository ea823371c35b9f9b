"""METAL's keywords: what abbreviates them, what follows them, and which spelling was meant by one that METAL refuses.

A word is a keyword when it is the beginning of it, in any case, and has at least the letters given here: MAR, MARKER and
MARKERLABEL are one, MARKERNAME is none. Of several the first in this order is meant.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Keyword:
    """A keyword: its full name, the fewest letters that METAL takes for it, how people write it, the words it needs after it."""

    name: str
    fewest: int
    usual: str
    n_words: int

    def is_meant_by(self, word: str) -> bool:
        """Whether METAL takes a word for this keyword.

        Examples
        --------
        >>> marker = Keyword("MARKERLABEL", 3, "MARKER", 1)
        >>> [marker.is_meant_by(word) for word in ("mar", "MARKER", "MARKERNAME", "MA")]
        [True, True, False, False]
        """
        return len(word) >= self.fewest and begins(word, self.name)


KEYWORDS = tuple(
    Keyword(*each)
    for each in (
        ("ANALYZE", 2, "ANALYZE", 0),
        ("ANALYSE", 2, "ANALYZE", 0),
        ("CLEAR", 2, "CLEAR", 0),
        ("REMOVEFILTERS", 3, "REMOVEFILTERS", 0),
        ("FLIP", 2, "FLIP", 0),
        ("HELP", 1, "HELP", 0),
        ("QUIT", 1, "QUIT", 0),
        ("EXIT", 2, "QUIT", 0),
        ("RETURN", 3, "RETURN", 0),
        ("COLUMNCOUNTING", 2, "COLUMNCOUNTING", 1),
        ("CUSTOMVARIABLE", 2, "CUSTOMVARIABLE", 1),
        ("DEFAULTWEIGHT", 1, "DEFAULTWEIGHT", 1),
        ("WEIGHTLABEL", 1, "WEIGHT", 1),
        ("GENOMICCONTROL", 1, "GENOMICCONTROL", 1),
        ("LOGPVALUE", 1, "LOGPVALUE", 1),
        ("USESTRAND", 4, "USESTRAND", 1),
        ("VERBOSE", 1, "VERBOSE", 1),
        ("AVERAGEFREQUENCY", 2, "AVERAGEFREQ", 1),
        ("MINMAXFREQUENCY", 4, "MINMAXFREQ", 1),
        ("MARKERLABEL", 3, "MARKER", 1),
        ("MAXWARNINGS", 3, "MAXWARNINGS", 1),
        ("PVALUELABEL", 2, "PVALUE", 1),
        ("EFFECTLABEL", 2, "EFFECT", 1),
        ("FREQLABEL", 2, "FREQ", 1),
        ("SOURCE", 2, "SOURCE", 1),
        ("STDERRLABEL", 3, "STDERR", 1),
        ("STRANDLABEL", 3, "STRAND", 1),
        ("CHROMOSOMELABEL", 3, "CHROMOSOME", 1),
        ("POSITIONLABEL", 3, "POSITION", 1),
        ("SCHEME", 2, "SCHEME", 1),
        ("SEPARATOR", 2, "SEPARATOR", 1),
        ("PROCESSFILE", 2, "PROCESS", 1),
        ("MINWEIGHT", 4, "MINWEIGHT", 1),
        ("OVERLAP", 1, "OVERLAP", 1),
        ("TRACKPOSITIONS", 1, "TRACKPOSITIONS", 1),
        ("EFFECT_PRINT_PRECISION", 1, "EFFECT_PRINT_PRECISION", 1),
        ("STDERR_PRINT_PRECISION", 1, "STDERR_PRINT_PRECISION", 1),
        ("ZCUTOFF", 1, "ZCUTOFF", 1),
        ("ALLELELABELS", 2, "ALLELE", 2),
        ("OUTFILE", 1, "OUTFILE", 2),
        ("ADDFILTER", 3, "ADDFILTER", 3),
        ("LABEL", 1, "LABEL", 3),
    )
)
"""In the order in which METAL compares them."""

USAGE = {
    "OUTFILE": "OUTFILE prefix suffix",
    "ALLELELABELS": "ALLELE column1 column2",
    "ADDFILTER": "ADDFILTER column condition value, such as ADDFILTER N > 10 or ADDFILTER CHR IN (1,2)",
    "LABEL": "LABEL variable AS column",
    "COLUMNCOUNTING": "COLUMNCOUNTING STRICT or LENIENT",
    "GENOMICCONTROL": "GENOMICCONTROL ON, OFF, a number above 0, or LIST file",
    "SCHEME": "SCHEME SAMPLESIZE or STDERR",
    "SEPARATOR": "SEPARATOR WHITESPACE, COMMA, TAB or BOTH",
    "ANALYZE": "ANALYZE or ANALYZE HETEROGENEITY",
}
"""What is written after keywords that take more than a name or ON and OFF."""

_MISTAKEN = {"MARKERNAME": "MARKERLABEL", "SNP": "MARKERLABEL", "RSID": "MARKERLABEL", "BETA": "EFFECTLABEL",
             "OUTPUT": "OUTFILE", "INPUT": "PROCESSFILE", "RUN": "ANALYZE", "FILTER": "ADDFILTER"}  # fmt: skip


def begins(word: str, name: str) -> bool:
    """Whether a word is the beginning of a name, in any case.

    Examples
    --------
    >>> begins("het", "HETEROGENEITY"), begins("HETERO_", "HETEROGENEITY")
    (True, False)
    """
    return name.startswith(word.upper())


def meanings(word: str) -> list[Keyword]:
    """Give the keywords that METAL takes a word for, in its order: where the first cannot use what follows, the next is tried.

    Examples
    --------
    >>> [keyword.name for keyword in meanings("O")], [keyword.name for keyword in meanings("PVALUES")]
    (['OVERLAP', 'OUTFILE'], [])
    """
    return [keyword for keyword in KEYWORDS if keyword.is_meant_by(word)]


def spelling_of(word: str) -> str | None:
    """Guess the keyword that a word METAL does not know was meant for, as people write it; None where nothing is near.

    Examples
    --------
    >>> [spelling_of(word) for word in ("MARKERNAME", "PVALUES", "STDERROR", "ALLELES", "FREQUENCY", "ANALYSIS", "XYZ")]
    ['MARKER', 'PVALUE', 'STDERR', 'ALLELE', 'FREQ', 'ANALYZE', None]
    """
    upper = word.upper()
    by_name = {keyword.name: keyword for keyword in KEYWORDS}
    if upper in _MISTAKEN:
        return by_name[_MISTAKEN[upper]].usual
    longest = sorted((keyword.usual for keyword in KEYWORDS if upper.startswith(keyword.usual)), key=len)
    if longest:
        return longest[-1]
    too_short = [keyword.usual for keyword in KEYWORDS if len(upper) > 1 and keyword.name.startswith(upper)]
    if too_short:
        return too_short[0]
    names = {name: keyword.usual for keyword in KEYWORDS for name in (keyword.name, keyword.usual)}
    near = difflib.get_close_matches(upper, names, n=1, cutoff=0.6)
    return names[near[0]] if near else None
