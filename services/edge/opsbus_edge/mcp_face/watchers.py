"""Who waits for what: listen streams and sessions by the URI or task they watch, and how much one caller watches."""

from typing import Generic, TypeVar

Watcher = TypeVar("Watcher")


class Watchers(Generic[Watcher]):
    """Watchers by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, set[Watcher]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def all(self) -> list[str]:
        """What is watched at all."""
        return list(self._by_key)

    def of(self, key: str) -> list[Watcher]:
        """Who watches it."""
        return list(self._by_key.get(key, ()))

    def add(self, key: str, watcher: Watcher) -> None:
        """From now on it is told."""
        self._by_key.setdefault(key, set()).add(watcher)

    def discard(self, key: str, watcher: Watcher) -> None:
        """It is told no more."""
        found = self._by_key.get(key)
        if found is not None:
            found.discard(watcher)
            if not found:
                del self._by_key[key]


class Shares:
    """How many of something each caller has, of ``most`` at this edge."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: dict[str, int] = {}

    def left(self, sub: str) -> int:
        """How many more the caller may have."""
        return self.most - self._held.get(sub, 0)

    def take(self, sub: str, number: int = 1) -> None:
        """The caller has that many more."""
        if number:
            self._held[sub] = self._held.get(sub, 0) + number

    def give_back(self, sub: str, number: int = 1) -> None:
        """That many fewer."""
        held = self._held.get(sub, 0) - number
        if held > 0:
            self._held[sub] = held
        else:
            self._held.pop(sub, None)
