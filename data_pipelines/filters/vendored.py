"""Copies of other people's code, as evidence that adds up to a score; no folder's name alone decides, but a few."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRONG_FOLDERS = _words(
    "_vendor _vendored bower_components jspm_packages node_modules pods carthage site-packages third-party third_party"
    " thirdparty 3rdparty vendor vendored vendors"
)
# their names say as often that code of one's own is kept there
WEAK_FOLDERS = _words("cache contrib deps dependencies dist ext extern external externals lib libs")
MANIFESTS = _words(
    "package.json bower.json composer.json setup.py setup.cfg pyproject.toml cargo.toml go.mod pom.xml build.gradle"
    " build.gradle.kts podspec gemspec nuspec"
)
VERSION = r"[-_.@]v?\d+\.\d+(?:\.\d+)*(?:[-.](?:alpha|beta|rc)[.\d]*)?"
VERSIONED_FOLDER = re.compile(rf"(?i)^[a-z][\w.+-]*?{VERSION}$")
VERSIONED_FILE = re.compile(rf"(?i)^[a-z][\w.+-]*?{VERSION}(?:[.-](?:min|slim|bundle|umd|esm))*\.[a-z]+$")
LIBRARY_FILE = re.compile(
    r"(?i)^(?:jquery(?:[.-](?:ui|slim|migrate))?|bootstrap(?:\.bundle)?|modernizr|html5shiv|respond|d3|underscore|backbone"
    r"|lodash|handlebars|mustache|prototype|mootools|raphael|codemirror|json2|es5-shim|es6-promise|sqlite3|stb_\w+"
    r"|catch|doctest)\.(?:js|css|c|h|hpp)$"
)
BANNER = re.compile(r"^/\*!.{0,80}?\bv?\d+\.\d+\.\d+", re.DOTALL)
# the names of migrations and of an extension's scripts hold versions of one's own
VERSIONED_BY_NATURE = (".sql",)


@dataclass(frozen=True, slots=True, order=True)
class Evidence:
    """One reason to call a file vendored: weight is the score that it gives alone, from 0 to 1."""

    reason: str
    weight: float


STRONG, WEAK = 0.8, 0.2
OTHER_LICENSE_FILE, SAME_LICENSE_FILE, MANIFEST = 0.4, 0.25, 0.15
VERSION_IN_FOLDER, VERSION_IN_WEB_FILE, VERSION_IN_FILE, KNOWN_LIBRARY = 0.4, 0.6, 0.3, 0.5
WITH_BANNER = 0.4
# the default of filters.vendored_score
ENOUGH = 0.5
OTHER_LICENSE, OTHER_HOLDER, STRANGE_HOLDER = 0.5, 0.5, 0.3
IN_TWO_REPOSITORIES, IN_MORE_REPOSITORIES, NEVER_CHANGED = 0.1, 0.3, 0.1


def score_of(evidence: Iterable[Evidence]) -> float:
    """The score of independent evidence together: 1 minus the product of what each leaves open."""
    doubt = 1.0
    for item in evidence:
        doubt *= 1 - item.weight
    return round(1 - doubt, 6)


def reason_of(evidence: Iterable[Evidence]) -> str:
    """The two weightiest reasons, in words; names no person."""
    weightiest = sorted(evidence, key=lambda item: (-item.weight, item.reason))[:2]
    return "vendored: " + ", ".join(item.reason for item in weightiest)


def path_evidence(path: str) -> list[Evidence]:
    """What folder and file names tell."""
    *folders, name = path.split("/")
    found = _folder_names(folders)
    if any(VERSIONED_FOLDER.match(folder) for folder in folders):
        found.append(Evidence("version in a folder's name", VERSION_IN_FOLDER))
    if LIBRARY_FILE.match(name):
        found.append(Evidence("file name of a known library", KNOWN_LIBRARY))
    elif VERSIONED_FILE.match(name) and not name.endswith(VERSIONED_BY_NATURE):
        is_web = name.endswith((".js", ".css"))
        found.append(Evidence("version in the file name", VERSION_IN_WEB_FILE if is_web else VERSION_IN_FILE))
    return found


def vendored_reason(path: str) -> str | None:
    """Why a path alone is called vendored, None when it is not: for files whose repository was not looked over."""
    evidence = path_evidence(path)
    return reason_of(evidence) if score_of(evidence) >= ENOUGH else None


def spread_evidence(num_repositories_with_blob: int, num_local_commits: int | None) -> list[Evidence]:
    """What other sources and the history tell; num_local_commits is None when nobody counted."""
    found = []
    if num_repositories_with_blob > 2:
        found.append(Evidence("the same file in several repositories", IN_MORE_REPOSITORIES))
    elif num_repositories_with_blob == 2:
        found.append(Evidence("the same file in two repositories", IN_TWO_REPOSITORIES))
    if num_local_commits == 0:
        found.append(Evidence("never changed since it came", NEVER_CHANGED))
    return found


def is_manifest_name(path: str) -> bool:
    """Whether a path is the manifest of a package."""
    name = path.rsplit("/", 1)[-1].lower()
    return name in MANIFESTS or name.rpartition(".")[2] in {"podspec", "gemspec", "nuspec"}


def has_banner(text: str) -> bool:
    """Whether a text begins with the banner of a released library."""
    return bool(BANNER.match(text))


def _folder_names(folders: list[str]) -> list[Evidence]:
    strong = next((name for name in folders if name.lower() in STRONG_FOLDERS), None)
    if strong:
        return [Evidence(f"folder {strong.lower()}", STRONG)]
    weak = next((name for name in folders if name.lower() in WEAK_FOLDERS), None)
    return [Evidence(f"folder {weak.lower()}", WEAK)] if weak else []
