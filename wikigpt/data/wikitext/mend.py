"""Where something was cut out: the white space and the brackets around it."""

import re

from wikigpt.data.wikitext.marks import HOLE

OPENING, CLOSING_BRACKETS = "([（", ")]）"
SEPARATORS = " \xa0;,:、，；·/–—-"


def mend(text: str) -> str:
    """Closes the gaps that were left: "At , Alabama" is no sentence, and "Aristotle (; )" none of ours."""
    if "  " in text:
        text = WIDE.sub(" ", text)
    first, *others = HOLES.split(text)
    out = [first]
    for right in others:
        left = out.pop()
        while True:
            bare = left.rstrip(" \xa0")
            before, after = bare[-1:], right.lstrip(" \xa0")[:1]
            if before and before in OPENING:  # ( ; 1900)
                left, right = bare, right.lstrip(SEPARATORS)
                if right[:1] and right[0] in CLOSING_BRACKETS:  # ()
                    left, right = bare[:-1], right[1:]
                    continue
            elif after and after in CLOSING_BRACKETS:  # (1900; )
                left, right = left.rstrip(SEPARATORS), right.lstrip(" \xa0")
                if left[-1:] and left[-1] in OPENING:
                    continue
            elif not after or after in "\n,.;:!?、。，；！？":
                left = bare
                if before in ("", "\n", "*", "#") and after and after in ",;:、，；":  # {{gone}}, at the beginning
                    right = right.lstrip(SEPARATORS)
                if before and after and before in ",;、，；" and after in ",.;:、。，；：":  # one, {{gone}}, two
                    left = bare[:-1]
            elif left != bare or not left or before == "\n":
                right = right.lstrip(" \xa0")
            break
        out += [left, right] if right else [left]
    return "".join(out)


HOLES = re.compile(f"{HOLE}(?:[ \xa0]*{HOLE})*")
WIDE = re.compile("  +")
