"""Text nobody owns: sentences from lists written for this project, mixed with invented words.

A share of words is made of syllables and digits, so that a reader cannot guess what it should read.
"""

from __future__ import annotations

from random import Random


def listed(words: str) -> list[str]:
    """Words set apart by spaces."""
    return words.split()


NOUNS = listed("""
patient nurse doctor ward dose tablet fever pulse blood sample result report chart table figure
page heart lung liver kidney muscle nerve bone skin eye ear hand foot child mother father team
clinic market price share growth model method study trial group control error value mean range
index rate river forest mountain island village bridge harbour garden kitchen window door roof
wall road train energy water light sound heat force mass field wave particle cell gene protein
virus vaccine tissue teacher student lesson question answer exam school paper book letter word
language history science engine wheel battery signal network server memory screen camera sensor
robot filter circuit switch
""")
VERBS = listed("""
shows gives takes keeps finds loses moves holds needs makes brings turns follows reaches changes
measures reports compares explains improves reduces raises covers crosses enters leaves opens
closes
""")
DESCRIBING = listed("""
small large early late old new quick slow warm cold clear dark quiet loud safe rare common central
outer inner daily weekly yearly gentle severe mild stable active free open narrow wide deep
shallow
""")
HOW = listed("often rarely slowly quickly again today later almost always never usually together")
JOINING = listed("and or but while because although after before when where with without")
UNITS = listed("mg ml kg g cm mm m s min h % mmol L kPa Hz W")
CONSONANTS = listed("b c d f g h j k l m n p q r s t v w x z br ch cl dr fl gr pl sh st tr")
VOWELS = listed("a e i o u y ai ea io ou")


def invented(luck: Random) -> str:
    """A word that does not exist.

    >>> invented(Random(1)) != invented(Random(2))
    True
    """
    syllables = luck.randint(1, 4)
    word = "".join(luck.choice(CONSONANTS) + luck.choice(VOWELS) for _ in range(syllables))
    if luck.random() < 0.3:
        word += luck.choice("nrstlmd")
    return word.capitalize() if luck.random() < 0.15 else word


def number(luck: Random) -> str:
    """A figure as texts have them: plain, decimal, percentage, code, date."""
    kind = luck.randrange(6)
    if kind == 0:
        return str(luck.randint(0, 99))
    if kind == 1:
        return f"{luck.uniform(0, 100):.{luck.randint(1, 2)}f}"
    if kind == 2:
        return f"{luck.randint(1, 999)} {luck.choice(UNITS)}"
    if kind == 3:
        return f"{luck.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}{luck.randint(10, 999)}"
    if kind == 4:
        return f"{luck.randint(1, 28)}/{luck.randint(1, 12)}/{luck.randint(1950, 2030)}"
    return f"{luck.randint(1, 999)},{luck.randint(0, 999):03d}"


def noun(luck: Random, strange: float) -> str:
    """A noun, or a word that does not exist."""
    return invented(luck) if luck.random() < strange else luck.choice(NOUNS)


def clause(luck: Random, strange: float) -> list[str]:
    """A subject, a verb and something for it."""
    words = [luck.choice(("the", "a", "each", "no", "this", "our"))]
    if luck.random() < 0.5:
        words.append(luck.choice(DESCRIBING))
    words += [noun(luck, strange), luck.choice(VERBS)]
    if luck.random() < 0.3:
        words.append(luck.choice(HOW))
    words += [luck.choice(("the", "a", "its", "some")), noun(luck, strange)]
    if luck.random() < 0.35:
        words += [luck.choice(("of", "at", "in", "by", "near")), number(luck)]
    return words


def sentence(luck: Random, strange: float = 0.3) -> str:
    """A sentence with a capital letter and a full stop, sometimes with brackets or quotes."""
    words = clause(luck, strange)
    if luck.random() < 0.4:
        words[-1] += "," if luck.random() < 0.6 else ";"
        words += [luck.choice(JOINING), *clause(luck, strange)]
    place = luck.randrange(1, len(words))
    dressed = luck.random()
    if dressed < 0.08:
        words[place] = f"({words[place].rstrip(',;')})"
    elif dressed < 0.14:
        words[place] = f'"{words[place].rstrip(",;")}"'
    text = " ".join(words)
    return text[0].upper() + text[1:] + luck.choice("....?!:")


def text(luck: Random, characters: int, strange: float = 0.3) -> str:
    """Sentences of about so many characters together, cut at a word and never longer.

    >>> len(text(Random(0), 40)) <= 40
    True
    """
    found = sentence(luck, strange)
    if characters < 40:  # or every short text would begin with an article
        found = found.split(" ", luck.randint(0, 4))[-1]
    while len(found) < characters:
        found += " " + sentence(luck, strange)
    if len(found) > characters:
        cut = found.rfind(" ", 0, characters + 1)
        found = found[:cut] if cut > 0 else found[:characters]
    return found.strip()


def heading(luck: Random, strange: float = 0.3) -> str:
    """A title of one to five words, perhaps numbered."""
    words = [noun(luck, strange) for _ in range(luck.randint(1, 3))]
    if luck.random() < 0.4:
        words.insert(1, luck.choice(("of", "and", "for", "in")))
        words.append(noun(luck, strange))
    title = " ".join(words)
    title = title[0].upper() + title[1:]
    return f"{luck.randint(1, 9)}.{luck.randint(1, 9)} {title}" if luck.random() < 0.3 else title


def cell(luck: Random, strange: float = 0.3) -> str:
    """What a table's cell holds."""
    return number(luck) if luck.random() < 0.6 else noun(luck, strange)
