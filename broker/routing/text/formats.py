"""What bytes are: a text that can be read whole, a picture, or something that cannot be read.

Rule: a text is read to its last byte. What begins like one and goes on otherwise is given back as far as it can be
read, and is said to be hidden; so is every format whose text does not stand there as it is read (PDF, PostScript, RTF,
archives, films, bundles of keys), whatever it calls itself.
"""

import codecs
import re
import zlib
from dataclasses import dataclass
from enum import Enum, auto


class Contained(Enum):
    """What some bytes hold, as far as it can be told from them."""

    TEXT = auto()
    IMAGE = auto()
    BINARY = auto()
    """It cannot be read by us, or not all of it."""
    NOISE = auto()
    """It is short, and nothing known: a hash, a key, a signature. It is looked at as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What some bytes hold, and the text in them."""

    held: Contained
    text: str = ""
    """What can be read of it; of a picture, what its makers wrote into it."""
    marked: bool = False
    """It is a picture that says it comes from a camera or a screen."""


LONG_BINARY = 1536
"""Fewer bytes than this of nothing known are noise: the longest signatures have some 700."""
GLANCE = 256
"""How many bytes tell whether it is worth reading all of it as text."""
PDF_WITHIN = 1024
"""The mark of a PDF may stand this many bytes after the beginning."""
NOTES = 65_536
"""How many bytes at both ends of a picture are searched for what programs and cameras write about it."""
NEARLY = 0.9
"""With this share of printable ASCII or more, a few bytes are read as text, and not held against anybody."""
_CLOSED = (
    b"%!PS", b"\x04%!", b"\xc5\xd0\xd3\xc6", b"\x1b%-12345X", b"{\\rtf", b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08",
    b"\x1f\x8b\x08", b"7z\xbc\xaf", b"\xfd7zXZ", b"Rar!", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"LZIP\x01",
    b"MSCF\x00", b"!<arch>\n", b"OggS\x00", b"ID3\x02", b"ID3\x03", b"ID3\x04", b"fLaC\x00", b"MThd\x00", b"#!AMR",
    b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"\x7fELF", b"\xca\xfe\xba\xbe",
    b"\xcf\xfa\xed\xfe", b"\x00asm", b"SQLite format 3", b"\xd0\xcf\x11\xe0", b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce",
    b"\x03\xd9\xa2\x9a", b"II*\x00", b"MM\x00*", b"8BPS\x00", b"PAR1", b"\x93NUMPY", b"\x80\x04\x95", b"\x80\x05\x95",
    b"bplist0", b"age-encryption.org/", b"Salted__", b"LUKS\xba", b"-----BEGIN PGP MESSAGE",
    b"-----BEGIN AGE ENCRYPTED", b"-----BEGIN PKCS7", b"-----BEGIN CMS", b"$ANSIBLE_VAULT;",
)  # fmt: skip
"""First bytes of formats that cannot be read as they stand: programs, archives, sound, films, databases, what is
encrypted."""
_CLOSED_TEXTS = ("%PDF-", "%!PS", "{\\rtf", "PK\x03\x04", "-----BEGIN PGP MESSAGE", "-----BEGIN AGE ENCRYPTED",
    "-----BEGIN PKCS7", "-----BEGIN CMS", "$ANSIBLE_VAULT;")  # fmt: skip
"""First letters of texts that stand there as they are and cannot be read all the same."""
_STILL = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
"""Brands of files with one picture; every other brand is a film's, or sound's."""
_BMP_HEADS = (12, 40, 52, 56, 64, 108, 124)
_CAMERA = (b"Exif\x00\x00", b"eXIf", b"EXIF", b"screenshot", b"Screenshot", b"Screen Shot", b"<exif:", b"tiff:Make")
_NOTE = re.compile(rb"[\x20-\x7e]{12,}")
_PASSAGE = re.compile(rb"[\t\n\r\x20-\x7e]{32}")
"""So many letters do not come by chance: a text with something else before or behind it."""
_CONTROLS = bytes((*range(9), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F))
"""Bytes that no text has; the escape of a terminal's colours is not among them."""
_PRINTABLE = bytes((*b"\t\n\r", *range(0x20, 0x7F)))
FEW = 200
"""One sign in so many may be none of a text's, where a text stands there as it is: a terminal's output has some."""


def judge_bytes(data: bytes, *, noise_below: int = LONG_BINARY) -> Judged:
    """Tell what bytes are.

    Args:
        data: All of the bytes.
        noise_below: Fewer bytes of nothing known are noise; 0 where something says that they are a file's.
    """
    if _is_closed(data):
        return Judged(held=Contained.BINARY)
    text = text_of(data)
    if text is not None:
        return Judged(held=Contained.TEXT, text=text)
    if _is_picture(data):
        notes = (data[:NOTES], data[NOTES:][-NOTES:])
        text = "\n".join(note.decode("ascii") for part in notes for note in _NOTE.findall(part))
        hides = data.startswith(b"\x89PNG") and _goes_on(data, b"IEND\xaeB\x60\x82")
        held = Contained.BINARY if hides else Contained.IMAGE
        return Judged(held=held, text=text, marked=any(word in data for word in _CAMERA))
    if _PASSAGE.search(data):
        return Judged(held=Contained.BINARY, text=data.decode("utf-8", "replace"))
    if len(data) >= noise_below or _is_der(data) or _is_packed(data):
        return Judged(held=Contained.BINARY)
    if _printable_share(data) >= NEARLY:
        return Judged(held=Contained.TEXT, text=data.decode("utf-8", "replace"))
    return Judged(held=Contained.NOISE)


def text_of(data: bytes) -> str | None:
    """Read the bytes as UTF-8, or UTF-16 by its mark or its zeros; None: they are no text to the last byte."""
    try:
        if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            text = data.decode("utf-16")
        elif len(data) >= 8 and not any(data[1:16:2]):
            text = data.decode("utf-16-le")
        elif len(data) >= 8 and not any(data[:16:2]):
            text = data.decode("utf-16-be")
        else:
            head = data[:GLANCE]
            if len(head) != len(head.translate(None, _CONTROLS)):
                return None
            text, _ = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return None
    return None if _strange(text) else text


def is_closed_text(text: str) -> bool:
    """Tell whether a text as it stands cannot be read whole: a file's bytes taken for letters, or an encrypted one."""
    if text[:64].lstrip("\ufeff \t\r\n").startswith(_CLOSED_TEXTS):
        return True
    strange = _strange(text)
    return strange > 0 and ("\x00" in text or strange > len(text) // FEW + 2)


def _strange(text: str) -> int:
    """Count the signs that no text has."""
    raw = text.encode("latin-1", "replace")
    return len(raw) - len(raw.translate(None, _CONTROLS)) + text.count("\ufffd")


def _is_closed(data: bytes) -> bool:
    if data.startswith(_CLOSED) or b"%PDF-" in data[:PDF_WITHIN] or data[257:262] == b"ustar":
        return True
    if data[4:8] == b"ftyp":
        return data[8:12] not in _STILL
    return data[:4] == b"RIFF" and data[8:12] != b"WEBP" and len(data) > 12


def _is_picture(data: bytes) -> bool:
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")) or data[4:8] == b"ftyp":
        return True
    if data[:2] == b"BM":
        return data[6:10] == bytes(4) and int.from_bytes(data[14:18], "little") in _BMP_HEADS
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _goes_on(data: bytes, end: bytes) -> bool:
    """Tell whether there is more after what ends a picture."""
    at = data.rfind(end)
    return at >= 0 and at + len(end) + 16 < len(data)


def _printable_share(data: bytes) -> float:
    return 1 - len(data.translate(None, _PRINTABLE)) / max(1, len(data))


def _is_packed(data: bytes) -> bool:
    """Tell whether it is packed: two bytes say so, which is little, so it must unpack, too."""
    if data[:10] == b"BZh" + data[3:4] + b"1AY&SY":
        return True
    if len(data) < 16 or data[0] & 0x0F != 8 or int.from_bytes(data[:2]) % 31:
        return False
    try:
        return len(zlib.decompressobj().decompress(data, GLANCE)) > 0
    except zlib.error:
        return False


def _is_der(data: bytes) -> bool:
    """Tell whether it calls itself one sequence of so many bytes, as certificates and bundles of keys do."""
    if data[:1] != b"\x30" or len(data) < 64:
        return False
    first = data[1]
    if first < 0x80:
        return first + 2 == len(data)
    head = 2 + (first & 0x7F)
    return head <= 6 and abs(int.from_bytes(data[2:head]) + head - len(data)) <= 2
