"""One job on several machines or devices."""

Shard = tuple[int, int]  # number from 0, count


def share(text: str) -> Shard:
    """A shard `i/n`, counted from 1.

    >>> share("2/8")
    (1, 8)
    """
    number, _, count = text.partition("/")
    found = int(number) - 1, int(count)
    if not 0 <= found[0] < found[1]:
        raise ValueError(f"{text} is no shard: the first of eight is 1/8")
    return found


def divided(shard: Shard, workers: int) -> list[Shard]:
    """A shard's own shards, one a worker; together they are it.

    >>> divided((1, 2), 3)  # the odd places, in three turns
    [(1, 6), (3, 6), (5, 6)]
    """
    number, count = shard
    return [(number + count * worker, count * workers) for worker in range(workers)]
