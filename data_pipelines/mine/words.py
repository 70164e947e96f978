"""Identifiers of a text and the words inside names, the same for every language."""

import re
from collections.abc import Collection, Mapping
from zlib import crc32

IDENTIFIER = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$]{2,63}")
NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
PROSE_WORD = re.compile(r"[^\W\d_]{2,}")
# words of the languages themselves, and names that every file has: they tell no file from another
KEYWORDS = frozenset(
    b"abstract and any args array as assert async auto await base bool boolean break byte case catch char class close "
    b"const constexpr continue data def default defer del delete do done double echo elif else elsif end endif enum "
    b"err error esac except explicit export extends extern false False fi final finally float fn for foreach friend "
    b"from fun func function get global goto go if impl implements import in include inline instanceof int interface "
    b"internal into is it key kwargs lambda len let list local long loop map match mod module move mut namespace new "
    b"nil None nonlocal not null nullptr object of open operator or override package param parent pass print private "
    b"protected pub public raise readonly ref require rescue return returns sealed select self Self set short signed "
    b"size sizeof static str string String struct super switch synchronized template test text then this throw throws "
    b"trait true True try type typedef typename typeof undefined union unless unsafe unsigned until use using val "
    b"value var virtual void volatile when where while with yield".split()
)
# words of English that say nothing by themselves
STOP_TEXT = """
a an and are as at be by do does for from get gets given has have if in into is it its may method of on or
return returns set sets so than that the their then there this to use used using via was when which will with function
helper simple new value object class"""
STOP_WORDS = frozenset(STOP_TEXT.split())


def word_hash(name: bytes) -> int:
    """The 32 bits by which indexes know an identifier."""
    return crc32(name)


def identifiers(text: bytes) -> set[bytes]:
    """The identifiers of three characters at least, keywords left out."""
    return set(IDENTIFIER.findall(text)) - KEYWORDS


def identifier_hashes(counts: Mapping[bytes, int], *, limit: int) -> tuple[int, ...]:
    """Sorted hashes of what IDENTIFIER found in a text so many times each; of more than limit the most frequent."""
    names: Collection[bytes] = counts.keys() - KEYWORDS
    if len(names) > limit:
        # the second sort leaves names that are equally frequent in the order of the first
        names = sorted(sorted(names), key=counts.__getitem__, reverse=True)[:limit]
    return tuple(sorted(set(map(crc32, names))))


def name_words(name: str) -> list[str]:
    """The words a name is made of, in lower case: parseHTTPHeader_v2 gives parse, http, header, v, 2."""
    return [part.lower() for part in NAME_PART.findall(name)]


def prose_words(text: str) -> set[str]:
    """The words of prose that may say something, in lower case, a final s taken off."""
    return {stem(word.lower()) for word in PROSE_WORD.findall(text)} - STOP_WORDS


def stem(word: str) -> str:
    """word without the s of a plural or of a verb's third person."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
