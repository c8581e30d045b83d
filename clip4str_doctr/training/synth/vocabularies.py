"""What signs say, and what pages say: two mixtures for `WordSource`, beside its own for all purposes."""

import numpy as np

from clip4str_doctr.training.synth.words import (
    MAX_SYMBOLS,
    NUMBERS,
    Draw,
    Mixture,
    WordSource,
    digits,
    general_mixture,
    place_tone,
    web_address,
)

__all__ = ["document_mixture", "street_mixture"]

LONG = 12  # symbols, from which on words are few in any text and need a share of their own
_EDGES = "\"'()[]<>.,:;!?*/-"
_CAPITALS = "BCĐGHKLMNPQSTVX"
_PAPERS = "QĐ NQ TTr BC KH TB CV CT HD NĐ TT QC BB GM CĐ TTLT VBHN GP".split()
_AGENCIES = (
    "UBND HĐND CP TTg BTC BYT BCT BXD BNV BCA BTP BQP BNNPTNT BTNMT BKHĐT BKHCN BTTTT BGTVT BVHTTDL BLĐTBXH BGDĐT "
    "NHNN VPCP TANDTC VKSNDTC TTCP KTNN STC SYT SNV SXD SCT SKHĐT SNN STNMT SGDĐT SLĐTBXH SGTVT SKHCN STTTT SVHTTDL "
    "STP CA TU BCĐ ĐHQG BHXH CTK TCT HQ MTTQ TLĐ ĐTN"
).split()
_TRADE = ("Co", "Bros", "Shop", "Mart", "Food", "Land", "Home", "Hair", "Spa", "Tour", "Auto", "Tech")


def street_mixture(words: WordSource) -> Mixture:
    """Shop signs, menus, banners, plates, phones: capitals mostly, little punctuation."""
    share = words.share

    def lexical(name: str, uniform: bool) -> Draw:
        draw = words.uniform if uniform else words.frequent
        return lambda rng: _on_a_sign(rng, draw(rng, name).strip(_EDGES), share(0.70, 0.58))

    numbers = (
        ("number", share(0.025, 0.05)),
        ("phone", share(0.04, 0.055)),
        ("price", share(0.025, 0.05)),
        ("plate", share(0.01, 0.015)),
        ("date", share(0.005, 0.01)),
        ("percentage", share(0.005, 0.01)),
    )
    return [
        (0.25, lexical("street", words.split == "val")),
        (share(0.12), lexical("boards", False)),
        (0.10, lexical("signs", words.split == "val")),
        (share(0.12, 0.10), lexical("tokens", False)),
        (share(0.04, 0.11), lexical("syllables", True)),
        (0.06, lexical("names", True)),
        (0.06, lexical("places", True)),
        *((part, NUMBERS[name]) for name, part in numbers),
        (share(0.005), _paper_number),
        (share(0.02), _single),
        (share(0.02), _piece),
        (share(0.05), lambda rng: _abbreviation(rng, words)),
        (0.025, _house_number),
        (share(0.025), _contact),
        (share(0.01), _district),
        (share(0.02), lambda rng: _two_words(rng, words)),
        (0.015, _trade_name),
        (share(0.03, 0.05), lambda rng: _long_label(rng, words)),
        *_scaled(general_mixture(words), share(0.08, 0.13)),
    ]


def document_mixture(words: WordSource) -> Mixture:
    """Decrees, letters, tables: running text with its punctuation, headings, numbers of paper."""

    def running(name: str, uniform: bool) -> Draw:
        draw = words.uniform if uniform else words.frequent

        def label(rng: np.random.Generator) -> str:
            word = draw(rng, name)
            ended = words.split == "train" and word[-1] in _EDGES
            if rng.random() < 0.3:
                word = place_tone(word, "old" if rng.random() < 0.6 else "new")
            if rng.random() < 0.16:
                word = word.upper()
            elif rng.random() < 0.15:
                word = word[:1].upper() + word[1:]
            return word if ended else _in_a_sentence(rng, word)

        return label

    share = words.share
    numbers = (
        ("number", share(0.03, 0.06)),
        ("date", share(0.015, 0.05)),
        ("price", share(0.015, 0.03)),
        ("percentage", 0.01),
        ("phone", 0.01),
    )
    return [
        (share(0.35, 0.30), running("tokens", False)),
        (share(0.15), running("decrees", False)),
        (share(0.10, 0.20), running("document", True)),
        (share(0.05, 0.12), running("syllables", True)),
        (0.03, running("names", True)),
        (0.03, running("places", True)),
        *((part, NUMBERS[name]) for name, part in numbers),
        (share(0.02), _paper_number),
        (share(0.02), _official_date),
        (share(0.05), lambda rng: _abbreviation(rng, words)),
        (share(0.015), lambda rng: _with_dots(rng, words)),
        (share(0.03), _agency_reference),
        (share(0.03, 0.06), _reference),
        (0.04, _item),
        (0.05, lambda rng: _in_a_sentence(rng, words.uniform(rng))),
        (share(0.05, 0.06), lambda rng: _long_label(rng, words)),
        *_scaled(general_mixture(words), share(0.10, 0.15)),
    ]


def _abbreviation(rng: np.random.Generator, words: WordSource) -> str:
    """CTY, UBND, GD&ĐT, (b/c);, THPT: - and, one in five, capitals that stand for nothing."""
    if rng.random() < 0.8:
        word = words.uniform(rng, "short")
    else:
        word = "".join(_CAPITALS[int(rng.random() * len(_CAPITALS))] for _ in range(2 + int(rng.random() * 5)))
        if len(word) > 3 and rng.random() < 0.3:
            word = word[:2] + "&-/."[int(rng.random() * 4)] + word[2:]
    return word if word[-1] in _EDGES or rng.random() < 0.8 else word + ",.:;)"[int(rng.random() * 5)]


def _piece(rng: np.random.Generator) -> str:
    """What stands between two spaces of a number on a sign: 0903, 456, 000đ, 330ml, 7h30, 24/24."""
    forms = (
        "0" + digits(rng, 3), digits(rng, 3), digits(rng, 4), digits(rng, 3) + ".", "000đ", ".000đ", "000", "24/24",
        f"{5 * (1 + int(rng.random() * 200))}{('ml', 'g', 'kg', 'W', 'mm')[int(rng.random() * 5)]}",
        f"{6 + int(rng.random() * 17)}h{('', '00', '30')[int(rng.random() * 3)]}", f"-{digits(rng, 3)}",
    )  # fmt: skip
    return forms[int(rng.random() * len(forms))]


def _single(rng: np.random.Generator) -> str:
    """A symbol by itself: blocks, rows, floors, vitamins; none that another one looks like when it stands alone."""
    singles = "ABCDĐEGHKLMNPQRSTVXYÔÝÁÀỞ123456789&"
    return singles[int(rng.random() * len(singles))]


def _contact(rng: np.random.Generator) -> str:
    """Telephone numbers of signs: ĐT:0903.456.789, 0903.45.67.89, 0168.123.4567, 38.456.789, (08)38.123.456."""
    mobile, line = "0" + "3579"[int(rng.random() * 4)] + digits(rng, 8), "23"[int(rng.random() * 2)] + digits(rng, 7)
    older = "01" + "2689"[int(rng.random() * 4)] + digits(rng, 8)  # until 2018
    area = ("08", "028", "04", "024", "0650", "0236", "0511", "031")[int(rng.random() * 8)]
    mark = "..-"[int(rng.random() * 3)]
    grouped = mark.join((line[:2], line[2:5], line[5:]))
    forms = (
        mobile, mark.join((mobile[:4], mobile[4:7], mobile[7:])), mark.join((mobile[:4], *_pairs(mobile[4:]))),
        older, mark.join((older[:4], older[4:7], older[7:])), line, grouped, mark.join((line[:4], line[4:])),
        f"({area}){line}", f"({area}){grouped}", f"{area}{mark}{grouped}",
    )  # fmt: skip
    number = forms[int(rng.random() * len(forms))]
    if rng.random() < 0.55:
        return number
    heads = "ĐT: ĐT: ĐT. DĐ: ĐTDĐ: SĐT: Tel: TEL: Hotline: HOTLINE: Fax: Zalo: LH: MB:".split()
    return heads[int(rng.random() * len(heads))] + number


def _pairs(figures: str) -> list[str]:
    return [figures[at : at + 2] for at in range(0, len(figures), 2)]


def _district(rng: np.random.Generator) -> str:
    """The end of an address: P.12-Q.10, F.7,Q.3, Q.5-TP.HCM, Q.TB, ĐC:45/2."""
    ward, district, house = 1 + int(rng.random() * 25), 1 + int(rng.random() * 12), 1 + int(rng.random() * 400)
    town, mark = ("TP.HCM", "TPHCM", "HN", "ĐN", "TP.HN")[int(rng.random() * 5)], "-,.-"[int(rng.random() * 4)]
    names = ("TB", "BT", "GV", "PN", "TĐ", "BTÂN", "TP", "ĐĐ", "HK", "CG", "TX")
    forms = (
        f"P.{ward}{mark}Q.{district}", f"F.{ward}{mark}Q.{district}", f"P{ward}{mark}Q{district}",
        f"Q.{district}{mark}{town}", f"Q.{names[int(rng.random() * len(names))]}", f"ĐC:{house}/{ward}",
        f"{house}/{ward}{mark}Q.{district}", f"Q{district}{mark}{town}",
    )  # fmt: skip
    return forms[int(rng.random() * len(forms))]


def _two_words(rng: np.random.Generator, words: WordSource) -> str:
    """What a sign joins: NHÔM-KÍNH, Nam/Nữ, ĂN&UỐNG."""
    while True:
        one, two = (words.uniform(rng, ("boards", "street")[int(rng.random() * 2)]).strip(_EDGES) for _ in range(2))
        label = one + ("-" if rng.random() < 0.6 else "/&+,"[int(rng.random() * 4)]) + two
        if one and two and len(label) <= MAX_SYMBOLS:
            break
    draw = rng.random()
    return label.upper() if draw < 0.75 else label.title() if draw < 0.9 else label.lower()


def _official_date(rng: np.random.Generator) -> str:
    """As decrees write them: 05/4/2024, where days below 10 and the months 1 and 2 have a 0; 2021-2030; 2024;"""
    day, month, year = 1 + int(rng.random() * 31), 1 + int(rng.random() * 12), 1990 + int(rng.random() * 41)
    end = ("", "", "", "", ",", ";", ".", ")")[int(rng.random() * 8)]
    if rng.random() < 0.6:
        return f"{day:02d}/{month if month > 2 else f'{month:02d}'}/{year}{end}"
    return (f"{year}" if rng.random() < 0.6 else f"{year}-{year + 1 + int(rng.random() * 15)}") + end


def _with_dots(rng: np.random.Generator, words: WordSource) -> str:
    """Where something is to be filled in, and where a decree ends: ........, Số:....., ngày....../......, hành./."""
    dots = "." * (3 + int(rng.random() ** 1.5 * 20))
    draw = rng.random()
    if draw < 0.35:
        return dots
    if draw < 0.6:
        return words.frequent(rng, "decrees").strip(_EDGES) + ("", ":")[int(rng.random() * 2)] + dots[:12]
    if draw < 0.7:
        return dots[:8] + "/" + dots[:8]
    return ("" if draw < 0.8 else words.frequent(rng, "decrees").strip(_EDGES)) + "./."


def _agency_reference(rng: np.random.Generator) -> str:
    """Numbers of documents of any kind and any office: 45/TTr-SKHĐT, 12/2021/TT-BNNPTNT, BC-UBND,"""
    kind, agency = (some[int(rng.random() * len(some))] for some in (_PAPERS, _AGENCIES))
    number, year = 1 + int(rng.random() ** 2 * 6000), 1995 + int(rng.random() * 32)
    forms = (
        f"{number:02d}/{kind}-{agency}",
        f"{number:02d}/{year}/{kind}-{agency}",
        f"{kind}-{agency}",
        f"/{kind}-{agency}",
    )
    return forms[int(rng.random() * 4)] + ("", "", "", ",", ";", ".")[int(rng.random() * 6)]


def _paper_number(rng: np.random.Generator) -> str:
    """Long numbers of receipts, bills and cards: 079201001234, 8934563138165, 0301234567-001, 1.254.300, 14:35:22."""
    form = rng.random()
    if form < 0.35:
        return digits(rng, 6 + int(rng.random() ** 1.5 * 11))
    if form < 0.45:  # a barcode, a citizen's card, an invoice, a tax code and its branch
        begin = ("893", "0", "000", "03", "01", "10")[int(rng.random() * 6)]
        number = begin + digits(rng, (13, 12, 10, 8)[int(rng.random() * 4)] - len(begin))
        return number + ("", "", "-" + digits(rng, 3))[int(rng.random() * 3)]
    if form < 0.75:  # an amount whose last figures are not all 0
        mark = "..,"[int(rng.random() * 3)]
        groups = [str(1 + int(rng.random() * 999)), *(digits(rng, 3) for _ in range(1 + int(rng.random() * 3)))]
        end = ("", "", "", "", "đ", "VND", ",00", ".00")[int(rng.random() * 8)]
        return ("-" if rng.random() < 0.05 else "") + mark.join(groups) + (end if end[:1] != mark else "")
    if form < 0.87:
        hours, minutes, seconds = int(rng.random() * 24), int(rng.random() * 60), int(rng.random() * 60)
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}" if rng.random() < 0.6 else f"{hours:02d}:{minutes:02d}"
    marks = ("-", ".", "")[int(rng.random() * 3)]
    return marks.join(digits(rng, 4) for _ in range(2 + int(rng.random() * 3)))  # cards, accounts


def _scaled(mixture: Mixture, share: float) -> Mixture:
    total = sum(weight for weight, _ in mixture)
    return [(weight * share / total, draw) for weight, draw in mixture]


def _on_a_sign(rng: np.random.Generator, word: str, capitals: float) -> str:
    """Case and tone placement of signs; a quote, a colon or a mark of exclamation now and then.

    capitals: share of words in upper case; of the others, half have a capital first and a fifth none.
    """
    if rng.random() < 0.6:
        word = place_tone(word, "old" if rng.random() < 0.65 else "new")
    draw = rng.random()
    others = 1 - capitals
    if draw < capitals:
        word = word.upper()
    elif draw < capitals + others * 20 / 42:
        word = word[:1].upper() + word[1:].lower()
    elif draw < capitals + others * 28 / 42:
        word = word.lower()
    edge = rng.random()
    if edge < 0.05:
        return word + ":!.,-?&+"[int(rng.random() * 8)]
    if edge < 0.065:
        pair = ('""', "()", "''", '" ', "( ", ' "', " )")[int(rng.random() * 7)]
        return (pair[0] + word + pair[1]).strip()
    return word


def _long_label(rng: np.random.Generator, words: WordSource) -> str:
    """`LONG` to 25 symbols: compounds, addresses, and the long, mostly foreign words of articles."""
    while True:
        form = rng.random()
        if form < 0.4:
            label = _compound(rng, words)
        elif form < 0.7:
            label = web_address(rng, words)
        else:
            label = words.uniform(rng)
        if LONG <= len(label) <= MAX_SYMBOLS:
            return label


def _compound(rng: np.random.Generator, words: WordSource) -> str:
    """Two to four syllables or names in one: XãLai-Uyên, ThừaThiênHuế, TP.BuônMaThuột."""
    sources = ("syllables", "names", "places", "tokens")
    parts = [words.uniform(rng, sources[int(rng.random() * 4)]).strip(_EDGES) for _ in range(2 + int(rng.random() * 3))]
    case, marks = rng.random(), ("-", "-", "", "", "/", "&", ".", "_", "+")
    if case < 0.5:
        parts = [part.capitalize() for part in parts]
    label = marks[int(rng.random() * len(marks))].join(parts)
    return label.upper() if case > 0.7 else label


def _house_number(rng: np.random.Generator) -> str:
    """12/3A, 45Bis, Q.10, P.5, Lô, Số:, A12-05, K345/12."""
    one, two = 1 + int(rng.random() * 400), 1 + int(rng.random() * 60)
    letter = "ABCDEFGHK"[int(rng.random() * 9)]
    forms = (
        f"{one}/{two}{letter}", f"{one}{letter}", f"{one}/{two}/{1 + int(rng.random() * 30)}", f"Q.{1 + two % 12}",
        f"P.{1 + two % 25}", f"Q{1 + two % 12}", "TP.HCM", f"{one}-{one + 2 * (1 + two % 5)}", f"K{one}/{two}",
        f"{letter}{two}-{1 + one % 30:02d}", f"QL{1 + two}A" if two < 60 else f"QL{two}", f"{one}bis", f"{one},",
        "ĐT:", "ĐC:", f"Lầu{1 + two % 9}", f"số{one}", f"{letter}{two}", f"{two}{letter}/{one}", f"T.{two}", "TP.HN",
    )  # fmt: skip
    return forms[int(rng.random() * len(forms))]


def _trade_name(rng: np.random.Generator) -> str:
    """Made-up Latin names as shops have them: consonants and vowels by turns."""
    syllables = 1 + int(rng.random() * 3)
    name = "".join(
        "bcdfghjklmnprstvwxz"[int(rng.random() * 19)] + "aeiouy"[int(rng.random() * 6)] for _ in range(syllables)
    )
    name += ("", "n", "x", "s", "ko", "tech", "mart")[int(rng.random() * 7)]
    if rng.random() < 0.3:
        name += _TRADE[int(rng.random() * len(_TRADE))]
    return name.upper() if rng.random() < 0.5 else name[:1].upper() + name[1:]


def _in_a_sentence(rng: np.random.Generator, word: str) -> str:
    draw = rng.random()
    if draw < 0.10:
        return word + ",.;:"[int(rng.random() * 3.9)]
    if draw < 0.14:
        return ("(" + word, word + ")", word + "),", f"({word})", '"' + word, word + '"', word + ").")[
            int(rng.random() * 7)
        ]
    return word


def _reference(rng: np.random.Generator) -> str:
    """Numbers of documents: 15/2014/NĐ-CP, 123/QĐ-UBND, 45/BC-SGDĐT."""
    kinds = (
        "NĐ-CP TT-BTC QĐ-UBND NQ-HĐND QĐ-TTg BC-SGDĐT TTr-UBND CV-SNV KH-UBND TB-VPCP TT-BGDĐT TT-BYT QH13 QH14 CT-TTg "
        "TTLT-BTC-BNV VBHN-VPQH HD-BTCTW GP-BXD"
    ).split()
    number, year = 1 + int(rng.random() * 3000), 1995 + int(rng.random() * 32)
    kind = kinds[int(rng.random() * len(kinds))]
    end = ("", "", "", ",", ";", ".")[int(rng.random() * 6)]
    forms = (
        f"{number}/{year}/{kind}",
        f"{number}/{kind}",
        f"{number:02d}/{year}/{kind}",
        kind,
        f"/{kind}",
        f"/{year}/{kind}",
    )
    return forms[int(rng.random() * len(forms))] + end


def _item(rng: np.random.Generator) -> str:
    """Beginnings of items and cells of tables: a), 1.2., III., (ii), -, 01, x."""
    number, more = 1 + int(rng.random() * 30), 1 + int(rng.random() * 9)
    letter = "abcdđeghik"[int(rng.random() * 10)]
    roman = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")[int(rng.random() * 12)]
    forms = (
        f"{letter})", f"{number}.", f"{number}.{more}.", f"{number}.{more}", f"{roman}.", roman, f"({roman.lower()})",
        "-", "+", "*", f"{number:02d}", f"({number})", f"{number})", f"{letter.upper()}.", f"[{number}]", "STT",
        f"({letter})", "x", "/", "%", f"{number}.{more}.{1 + number % 4}", f"{more}/", "...", "....", ":", "No.",
        f"{number};",
    )  # fmt: skip
    return forms[int(rng.random() * len(forms))]
