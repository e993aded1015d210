"""Which language a text is in, as far as a corpus asks: English, Chinese, or another one."""

from __future__ import annotations

import re
from typing import Literal

from resiliparse.parse.lang import detect_fast

from dsm.corpus.extract.formulas.tex import words

Language = Literal["en", "zh", "other"]

_SAMPLE = 6_000  # characters from the middle: both ends of a page are menus
_FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$\n]{1,300}\$|\\\(.+?\\\)|\\\[.+?\\\]|\\[A-Za-z]+|https?://\S+", re.DOTALL)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3041-\u30ff\uac00-\ud7af]")
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    words(
        "the of and that is this with for from are was were which when then where what how we you your they have has"
        " had not by if its let there their will would can could should about into than these those been our an be"
        " find solve prove show given answer question exercise problem solution proof theorem equation function number"
    )
)
_OTHERS = frozenset(
    words(  # of German, French, Spanish, Italian, Portuguese, Dutch, Polish, Swedish that English does not have
        "der die das und ist nicht ein eine mit auf für von den dem zu sich auch les des une est pour dans que qui"
        " sur pas avec plus nous el los las una por para con del como pero il gli che per della sono não uma com"
        " os ao het een van niet voor zijn dat nie jest się na do och att som det är på av til og"
    )
)


def language_of(text: str) -> Language:
    """Language of a text, by the script it is written in and the small words in it.

    Chinese: a fifth of its letters are Han and hardly any are kana or Hangul. English: the small words of English are
    many and those of its neighbours fewer; where there are too few words to tell, as on a sheet of problems, a detector
    by letter statistics decides. Formulas and addresses do not count.
    """
    middle = max(0, (len(text) - _SAMPLE) // 2)
    sample = _FORMULA.sub(" ", text[middle : middle + _SAMPLE])
    han = len(_HAN.findall(sample))
    if han:
        words = _WORD.findall(_HAN.sub(" ", sample))
        others = len(_KANA_HANGUL.findall(sample))
        if han >= 0.2 * (han + sum(map(len, words))) or han > 2 * len(words):
            return "other" if others > 0.08 * (han + others) else "zh"
    words = [word.lower() for word in _WORD.findall(sample)]
    english = sum(word in _ENGLISH for word in words)
    neighbours = sum(word in _OTHERS for word in words)
    if english >= 3 and english >= 0.12 * len(words):
        return "en" if neighbours < 0.5 * english else "other"
    if english < 0.02 * len(words) and len(words) > 100:
        return "other"
    if len(words) <= 12 and (english or neighbours):
        return "en" if english > neighbours else "other"
    found = detect_fast(" ".join(words), n_results=1) if len(words) >= 3 else ("unknown", 0)
    return "en" if found[0] == "en" and neighbours <= english + 1 else "other"
