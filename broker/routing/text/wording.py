"""Words with which people ask for something, and what code looks like: enough to tell small work from large.

Rule: a wish stands at the beginning of a sentence or behind a "please", so that a text which only speaks of such things
asks for nothing. English, German, French, Spanish, Italian and Portuguese; no meaning is understood.

Texts are strangers': nothing is repeated without a bound within something that is, and no line's beginning runs on over
empty lines.
"""

import re

_POLITE = (
    "please", "kindly", "can you", "could you", "would you", "will you",
    "you (?:will|must|should|are to)", "(?:task|job) is to", "(?:want|need) you to", "and", "then", "bitte",
    "du sollst", "veuillez", "merci de", "por favor", "per favore",
)  # fmt: skip
_BEGINS = (
    r"(?:^[ \t]{0,40}(?:[-*\d.)#]{1,8}[ \t]{1,8})?|[.!?:;,>(\"']\s{0,8}|"
    rf"\b(?:{'|'.join(_POLITE)})\s{{1,8}})"
)


def _wish(*words: str) -> re.Pattern[str]:
    return re.compile(f"{_BEGINS}(?:{'|'.join(words)})(?!\\w)", re.IGNORECASE | re.MULTILINE)


def _anywhere(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


_ADJECTIVES = (
    r"(?:(?:very|short|brief|concise|quick|catchy|good|simple|clear|executive|single|\d{1,4}|one|two|three|four|five|ten"
    r"|sentence|word|line|paragraph|bullet|point|page|character)(?:, |[ -])){0,8}"
)
_CLASSIFY = (
    _wish(
        "classify", "categori[sz]e", "label (?:each|the|this|these|every|all)", "klassifiziere", "kategorisiere",
        r"ordne\b.{1,80}\bzu", "classe[zr]?", "catégorise[zr]?", "clasifica", "categoriza", "classifica", "categorizza",
        "classifique",
    ),
    _anywhere(
        "sentiment (?:analysis|of)", "what(?:'s| is) the sentiment", "which (?:category|class|label)",
        "which of the following (?:categories|classes|labels)", "positive, negative,? or neutral",
        r"(?:is|are) (?:this|these|the following) (?:\w+ ){0,3}(?:spam|toxic|positive or negative)",
        "(?:answer|respond|reply)(?: only)? with (?:(?:only|just|a single|exactly) )*(?:one of|the label|the category)",
        "(?:answer|respond|reply)(?: only)? with (?:(?:only|just) )*(?:yes or no|true or false)",
    ),
)  # fmt: skip
_EXTRACT = (
    _wish(
        "extract", "pull out (?:all|the|every)", r"find all (?:names|dates|people|places|entities|mentions)",
        r"list (?:all|every|the) (?:names|dates|people|places|entities|amounts|addresses|e-?mail\w*)",
        "extrahiere", "entnimm", "extrais", "extrayez", "extraire", "extrae", "extraiga", "estrai", "extraia",
    ),
    _anywhere("named[- ]entity recognition", "(?:entity|information) extraction"),
)  # fmt: skip
_SHORTEN = (
    _wish(
        "summari[sz]e", "sum up", "tl;?dr",
        f"(?:give|write|create|provide|generate)(?: me)? (?:an?|the) {_ADJECTIVES}summary",
        f"(?:generate|write|create|suggest) an? {_ADJECTIVES}(?:title|headline|subject line)",
        r"fasse?\b.{1,300}\bzusammen", "zusammenfassen", "résume[zr]?", "riassumi", "resum[aí]",
        "resume (?:el|la|los|las|este|esta|esto|en)",
    ),
    _anywhere("tl;dr", "(?:short |brief )?summary of", "zusammenfassung (?:von|des|der)"),
)  # fmt: skip
_REFACTOR = _anywhere(
    r"extract\s{1,8}(?:\w{1,40}\s{1,8}){0,4}(?:method|function|class|component|variable|constant|interface|module|helper|hook|trait|type)s?"
)
_MAKE = (
    "write", "implement", "create", "fix", "refactor", "debug", "review", "optimi[sz]e", "port", "rewrite", "add",
    "generate", "schreibe?", "écris", "escribe", "scrivi",
)  # fmt: skip
_MADE = (
    "function", "method", "class", "script", "code", "bug", "unit tests?", "regex", "regular expression",
    "(?:sql )?quer(?:y|ies)", "api", "endpoint", "component", "dockerfile", "makefile", "program", "module",
    "algorithm", "funktion", "programm", "skript", "fonction", "función", "funzione",
)  # fmt: skip
_ENDINGS = "py|jsx?|mjs|tsx?|rs|go|java|kt|c|cc|cpp|hpp|cs|rb|php|swift|scala|lua|zig|sh|sql|vue|svelte|ipynb|toml"
_DECLARED = "public|private|static|export|async|const|let|fn|func|function"
_CODE = (
    re.compile(
        r"^```|^diff --git |^@@ -\d|^Traceback \(most recent|^[ \t]{1,40}at [\w.$<>]{1,200}\([\w.]{1,200}:\d",
        re.MULTILINE,
    ),
    re.compile(
        rf"^[ \t]{{0,80}}(?:def \w+\(|class \w+[:({{]|#include <|import [\w.]+(?: as \w+)?;?$|import .{{1,80}} from "
        rf"|from \w[\w.]* import |(?:{_DECLARED})[ \t]{{1,8}}\w.{{0,200}}[({{;=])",
        re.MULTILINE,
    ),
    re.compile(rf"\w\.(?:{_ENDINGS})\b(?!\.\w)"),
    re.compile(rf"\b(?:{'|'.join(_MAKE)})\b.{{0,80}}\b(?:{'|'.join(_MADE)})\b", re.IGNORECASE | re.DOTALL),
    _REFACTOR,
)
_CODER = _anywhere(
    "coding (?:assistant|agent)", "software (?:engineer|developer|engineering)", r"pair programm\w+",
    "expert programmer", "code reviewer", "claude code", "codex", "opencode", "aider", "codebase",
)  # fmt: skip


def asks_for_a_class(text: str) -> bool:
    """Tell whether the text asks which of a few kinds something is."""
    return _found(_CLASSIFY, text)


def asks_for_what_is_in_it(text: str) -> bool:
    """Tell whether it asks for names, dates or numbers of a text; for parts of a program it is a refactoring."""
    return _found(_EXTRACT, text) and _REFACTOR.search(text) is None


def asks_for_less(text: str) -> bool:
    """Tell whether it asks for something shorter, such as a summary or a title."""
    return _found(_SHORTEN, text)


def is_of_code(text: str) -> bool:
    """Tell whether it holds code, or a wish for some."""
    return _found(_CODE, text)


def speaks_to_a_coder(text: str) -> bool:
    """Tell whether it instructs a model that writes code."""
    return _CODER.search(text) is not None


def _found(patterns: tuple[re.Pattern[str], ...], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)
