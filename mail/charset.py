"""Charset: bytes of mail to text, whatever the label says.

Labels lie: KS C 5601 means CP949, GB2312 means GB18030, ISO-8859-1 means Windows-1252, many
senders put no label or a wrong one. The label is tried strictly first, then the bytes are
looked at. What comes out can always be written as UTF-8: no NUL, no lone surrogate.
"""

from __future__ import annotations

import codecs
import itertools
import re

SAMPLE_BYTES_MAX = 4096  # Enough for a verdict; guessing must not cost more than decoding.
DAMAGE_MAX = 0.05  # Share of replacement characters up to which a label is still believed.
UTF8_DAMAGE_MAX = 0.3  # The same for UTF-8, which nothing else resembles.
JIS_BYTES_MAX = 1 << 20  # Read by our own ISO-2022-JP decoder, at 0.2 s a megabyte.
LABEL_CHARS_MAX = 64  # RFC 2978 §2.3 allows 40; anything longer is junk.

_BY_CODEC = {
    "ascii": "us-ascii ascii ansi-x3.4-1968 iso646-us 646 us 7bit",
    "utf_8": "utf-8 utf8 utf-8-sig unicode-1-1-utf-8 utf-8mb4 utf8mb4 unicode",
    "utf_7": "utf-7 utf7 unicode-1-1-utf-7",
    "utf_16": "utf-16 utf16 ucs-2 iso-10646-ucs-2",
    "utf_16_le": "utf-16le",
    "utf_16_be": "utf-16be",
    "utf_32": "utf-32 utf32 ucs-4 iso-10646-ucs-4",
    "cp949": "euc-kr euckr ks-c-5601-1987 ks-c-5601-1989 ks-c-5601 ksc5601 ksc-5601 ks-c5601"
    " ksc5601-1987 ks-x-1001 ksx1001 korean cp949 ms949 uhc windows-949 x-windows-949 ks"
    " cseuckr csksc56011987 iso-ir-149 5601 949",
    "johab": "johab cp1361 ms1361",
    "iso2022_kr": "iso-2022-kr csiso2022kr",
    "gb18030": "gb2312 gb-2312 gb2312-80 gb-2312-80 euc-cn gbk cp936 ms936 windows-936 x-gbk"
    " gb18030 gb-18030 chinese csgb2312 iso-ir-58 x-mac-chinesesimp gb-2312-1980",
    "hz": "hz-gb-2312 hz hz-gb",
    "cp950": "big5 big-5 cn-big5 csbig5 x-x-big5 cp950 big5-tw x-mac-chinesetrad",
    "big5hkscs": "big5-hkscs big5hkscs hkscs",
    "cp932": "shift-jis shiftjis sjis s-jis x-sjis ms-kanji csshiftjis windows-31j cp932 ms932"
    " cswindows31j x-ms-cp932",
    "euc_jp": "euc-jp eucjp x-euc-jp ujis x-euc cseucpkdfmtjapanese",
    "iso2022_jp_ext": "iso-2022-jp iso2022-jp csiso2022jp iso-2022-jp-ext iso-2022-jp-1 jis"
    " iso-2022-jp-ms cp50220 cp50221 cp50222",
    "iso2022_jp_2": "iso-2022-jp-2",
    "iso2022_jp_3": "iso-2022-jp-3",
    "iso2022_jp_2004": "iso-2022-jp-2004",
    "cp1252": "iso-8859-1 iso8859-1 latin1 latin-1 l1 iso-latin-1 windows-1252 cp1252 x-ansi"
    " ansi-1252 iso-ir-100 x-cp1252 8859-1 cp819",
    "cp1254": "iso-8859-9 iso8859-9 latin5 windows-1254 cp1254",
    "cp874": "iso-8859-11 tis-620 windows-874 cp874 dos-874",
    "koi8_r": "koi8-r koi8 cskoi8r koi",
    "koi8_u": "koi8-u",
    "kz1048": "kz-1048",
    "mac_roman": "macintosh mac x-mac-roman mac-roman",
    "mac_cyrillic": "x-mac-cyrillic mac-cyrillic",
    "hp_roman8": "hp-roman8 roman8",
    "cp1250": "windows-1250 cp1250 x-cp1250",
    "cp1251": "windows-1251 cp1251 x-cp1251 win-1251",
    "cp1253": "windows-1253 cp1253",
    "cp1255": "windows-1255 cp1255",
    "cp1256": "windows-1256 cp1256",
    "cp1257": "windows-1257 cp1257",
    "cp1258": "windows-1258 cp1258",
    "cp437": "ibm437 cp437",
    "cp850": "ibm850 cp850",
    "cp852": "ibm852 cp852",
    "cp866": "ibm866 cp866",
    "iso8859_8": "iso-8859-8 iso-8859-8-i iso-8859-8-e iso8859-8 hebrew visual logical",
    **{f"iso8859_{n}": f"iso-8859-{n} iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16)},
}
# A closed list: `codecs.lookup` would also find punycode, zlib or unicode_escape.
CODECS = {label: codec for codec, labels in _BY_CODEC.items() for label in labels.split()}

# Labels by which a sender says that it does not know.
NO_LABELS = frozenset(
    ("", "unknown-8bit", "unknown", "x-unknown", "x-user-defined", "default", "8bit", "binary")
)
# Codecs for which ASCII bytes may mean something else than ASCII characters.
_STATEFUL = frozenset(
    codec for codec in _BY_CODEC if codec.startswith(("utf_7", "utf_16", "utf_32", "iso2022", "hz"))
)
# Second tries for a label whose usual reading failed.
_WIDER: dict[str, tuple[str, ...]] = {
    "cp1252": ("latin_1",),
    "cp1254": ("iso8859_9",),
    "cp950": ("big5hkscs",),
    "euc_jp": ("euc_jis_2004",),
    "cp932": ("shift_jis_2004",),
    "iso2022_kr": ("cp949",),
}

_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH = re.compile(rb"[\x80-\xff]")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_HAN = re.compile("[\u4e00-\u9fff]")
_FOREIGN = re.compile("[\ue000-\uf8ff\u3041-\u30fa]")  # What Big5 shows when read as GB18030.
_JIS_RUN = re.compile(rb"\x1b(\$[@B]|\$\(D|\([BHIJ])")


def codec_of(charset: str | None) -> str | None:
    """Return the Python codec for a charset label, or None when the label says nothing to us."""
    if charset is None or len(charset) > LABEL_CHARS_MAX:
        return None
    label = charset.strip(" \t\"'").lower().replace("_", "-")
    return CODECS.get(label)


def clean(text: str) -> str:
    """Return `text` without NUL and with U+FFFD for lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii() and _SURROGATE.search(text) is not None:
        # Pairs that a decoder left apart become one character, single ones are replaced.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def decode(
    data: bytes, charset: str | None, *, hint: str | None = None, cut: bool = False
) -> tuple[str, bool]:
    """Return the text of `data` and whether there was a problem. Never raises.

    `charset` is the label, `hint` a charset that is likely if the label is missing or wrong;
    `cut` says that `data` may end inside a character. A problem is a wrong or unknown label or
    malformed bytes (RFC 8621 §4.1.4 `isEncodingProblem`).
    """
    codec = codec_of(charset)
    unknown = codec is None and charset is not None and charset.strip().lower() not in NO_LABELS
    if data.isascii() and codec not in _STATEFUL and b"\x1b" not in data:
        return clean(data.decode("ascii")), unknown
    if codec is not None and (codec != "ascii" or b"\x1b" not in data):
        text = _decode_labelled(data, codec, cut=cut)
        if text is not None:
            return text, False
        if codec != "ascii":
            return clean(_rescue(data, codec, hint, cut=cut)), True
    text, certain = guess(data, hint, cut=cut)
    return text, unknown or not certain or charset is not None


def guess(data: bytes, hint: str | None = None, *, cut: bool = False) -> tuple[str, bool]:
    """Return the text of unlabelled bytes and whether all of it fits the guess. Never raises."""
    for escape, codec in ((b"\x1b$)C", "iso2022_kr"), (b"\x1b$", "iso2022_jp_ext")):
        if escape in data:
            text = _decode_labelled(data, codec, cut=cut)
            if text is not None:
                return text, True
    for candidate in ("utf_8", codec_of(hint)):
        if candidate is not None:
            text = _decode_labelled(data, candidate, cut=cut)
            if text is not None:
                return text, True
    sample = _sample(data)
    if _damage(sample, "utf_8") <= UTF8_DAMAGE_MAX:
        return clean(data.decode("utf_8", "replace")), False
    candidate = _east_asian_codec(sample, cut=cut)
    if candidate is not None:
        strict = _strict(data, candidate, cut=cut)
        damaged = data.decode(candidate, "replace") if strict is None else strict
        return clean(damaged), strict is not None
    western = _strict(data, "cp1252", cut=cut)
    return clean(data.decode("latin_1") if western is None else western), False


def _decode_labelled(data: bytes, codec: str, *, cut: bool) -> str | None:
    """Return the text if every byte fits the codec or one of its wider relatives."""
    for candidate in (codec, *_WIDER.get(codec, ())):
        text = _strict(data, candidate, cut=cut)
        if text is not None:
            if codec == "utf_8":
                return text.replace("\x00", "") if "\x00" in text else text
            return clean(text)
    return _decode_jis(data) if codec == "iso2022_jp_ext" else None


def _strict(data: bytes, codec: str, *, cut: bool) -> str | None:
    try:
        if cut:
            return codecs.getincrementaldecoder(codec)("strict").decode(data, False)
        return data.decode(codec)
    except UnicodeError:
        return None


def _rescue(data: bytes, codec: str, hint: str | None, *, cut: bool) -> str:
    """Choose between a damaged reading of the label and a guess."""
    if codec != "utf_8" and (text := _strict(data, "utf_8", cut=cut)) is not None:
        return text
    damage = _damage(_sample(data), codec)
    if damage > (UTF8_DAMAGE_MAX if codec == "utf_8" else DAMAGE_MAX):
        text, certain = guess(data, hint, cut=cut)
        if certain or damage > 2 * DAMAGE_MAX:
            return text
    return data.decode(codec, "replace")


def _sample(data: bytes) -> bytes:
    """Return the octets from the first one beyond ASCII on, or from the start."""
    first = _HIGH.search(data)
    start = first.start() if first is not None else 0
    return data[start : start + SAMPLE_BYTES_MAX]


def _damage(sample: bytes, codec: str) -> float:
    """Return which share of the characters beyond ASCII a codec would lose."""
    text = sample.decode(codec, "replace")
    lost = text.count("\ufffd")
    return lost / len(_NON_ASCII.findall(text)) if lost else 0.0


def _decode_jis(data: bytes) -> str | None:
    """Read ISO-2022-JP with the vendor rows 13 and 89 to 92 that Python's codec refuses."""
    if len(data) > JIS_BYTES_MAX:
        return None
    out: list[str] = []
    pos, double = 0, False
    for match in itertools.chain(_JIS_RUN.finditer(data), (None,)):
        run = data[pos : match.start() if match else len(data)]
        text = (
            _strict(_to_shift_jis(run), "cp932", cut=False)
            if double
            else _strict(run, "ascii", cut=False)
        )
        if text is None:
            return None
        out.append(text)
        if match:
            pos, double = match.end(), match[1] in (b"$B", b"$@")
    return "".join(out)


def _to_shift_jis(run: bytes) -> bytes:
    """Return the Shift_JIS form of pairs of JIS X 0208 row and cell octets."""
    out = bytearray()
    for row, cell in zip(run[::2], run[1::2], strict=False):
        high = ((row + 1) >> 1) + (0x70 if row < 0x5F else 0xB0)
        low = cell + ((0x1F if cell < 0x60 else 0x20) if row & 1 else 0x7E)
        out += bytes((high & 0xFF, low & 0xFF))
    return bytes(out)


def _east_asian_codec(sample: bytes, *, cut: bool) -> str | None:
    """Return the codec in which the bytes look like written language."""
    high = len(_HIGH.findall(sample))
    # In EUC-like text both octets of a pair are high; a lone high octet between ASCII
    # letters is an accented letter of the West.
    for codec, script, share_min, pairs_min in (
        ("cp949", _HANGUL, 0.7, 0.75),
        ("cp932", _KANA, 0.2, 0.5),
        ("euc_jp", _KANA, 0.3, 0.9),
        ("gb18030", _HAN, 0.6, 0.9),
        ("cp950", _HAN, 0.7, 0.65),
    ):
        text = _strict(sample, codec, cut=cut or len(sample) == SAMPLE_BYTES_MAX)
        if not text:
            continue
        beyond = len(_NON_ASCII.findall(text))
        if not beyond or high < 2 * beyond * pairs_min:
            continue
        if codec == "gb18030" and _FOREIGN.search(text) is not None:
            continue
        if len(script.findall(text)) >= share_min * beyond:
            return codec
    return None
