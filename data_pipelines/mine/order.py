"""An order of files in which what is imported comes first, after DeepSeek-Coder (arXiv 2401.14196)."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby

from data_pipelines.mine.card import FileCard
from data_pipelines.mine.pretrain import Part, pack, parts_of


def pretrain_packs(cards: Iterable[FileCard], *, max_bytes: int) -> Iterator[tuple[Part, ...]]:
    """The rows of one repository as parts of files: every byte of every card is in exactly one of them.

    Languages do not share a row. A row may hold several groups of files that import nothing of one another: those
    without any such tie would else be rows of one small file each.
    """
    by_language = sorted(cards, key=lambda card: (card.language, card.path))
    for _, group in groupby(by_language, key=lambda card: card.language):
        found = {card.path: card for card in group}
        order = [path for component in components(_imports(found)) for path in component]
        parts = (part for path in order for part in parts_of(path, found[path].num_bytes, found[path].cuts))
        yield from pack(parts, max_bytes=max_bytes)


def components(imports: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Each group of connected files in its order; groups by their first path, so that neighbours stay together.

    Of what is left the file comes next that imports the fewest others that are left; ties go by path. Without cycles
    that is a topological order, and a cycle is entered where the least is missing.
    """
    partners: dict[str, list[str]] = defaultdict(list)
    for path in sorted(imports):
        for other in imports[path]:
            partners[path].append(other)
            partners[other].append(path)
    seen: set[str] = set()
    found = []
    for path in sorted(imports):
        if path not in seen:
            members = _reachable(path, partners)
            seen |= members
            found.append(_ordered({member: imports[member] for member in members}))
    return found


def _imports(cards: Mapping[str, FileCard]) -> dict[str, list[str]]:
    return {path: [other for other in card.imports if other in cards] for path, card in cards.items()}


def _reachable(start: str, partners: Mapping[str, Sequence[str]]) -> set[str]:
    found, left = {start}, [start]
    while left:
        for path in partners.get(left.pop(), ()):
            if path not in found:
                found.add(path)
                left.append(path)
    return found


def _ordered(imports: Mapping[str, Sequence[str]]) -> list[str]:
    missing = {path: len(set(others)) for path, others in imports.items()}
    importers: dict[str, list[str]] = defaultdict(list)
    for path in sorted(imports):
        for other in sorted(set(imports[path])):
            importers[other].append(path)
    heap = [(count, path) for path, count in missing.items()]
    heapify(heap)
    order = []
    while heap:
        _, path = heappop(heap)
        if path not in missing:
            # taken already, with a smaller count
            continue
        order.append(path)
        del missing[path]
        for importer in importers[path]:
            if importer in missing:
                missing[importer] -= 1
                heappush(heap, (missing[importer], importer))
    return order
