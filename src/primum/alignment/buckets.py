"""One training set out of several buckets, in wanted proportions."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from primum.alignment.encoded import Reader
from primum.errors import UserError
from primum.language.formats import Conversation


def mixed(
    buckets: Mapping[str, Reader],
    shares: Mapping[str, float] | None = None,
    total: int | None = None,
    seed: int = 0,
) -> list[Conversation]:
    """Rows of all buckets, each with its name as `bucket`.

    Args:
        buckets: A reader for each name.
        shares: How much of the whole each bucket makes up; what they hold if None.
        total: Rows altogether; None takes as many as the scarcest bucket allows. A bucket with more
            than its part gives a sample, one with less is used several times.
        seed: Of the sample.

    Raises:
        UserError: Shares and buckets do not have the same names, or a share is not above 0.
    """
    read = {name: reader() for name, reader in buckets.items()}
    if shares is None:
        taken = read
    else:
        if set(shares) != set(read) or min(shares.values()) <= 0:
            raise UserError(
                f"Each bucket needs a share above 0: there are {', '.join(read)} and shares for "
                f"{', '.join(shares)}"
            )
        whole = sum(shares.values())
        wanted = total or min(
            round(len(rows) * whole / shares[name]) for name, rows in read.items()
        )
        random = np.random.Generator(np.random.PCG64(seed))
        taken = {
            name: [
                rows[at]
                for turn in range(-(-round(wanted * shares[name] / whole) // len(rows)))
                for at in random.permutation(len(rows))[
                    : max(0, round(wanted * shares[name] / whole) - turn * len(rows))
                ]
            ]
            for name, rows in read.items()
        }
    mixture: list[Conversation] = []
    seen: dict[str, int] = {}
    for name, rows in taken.items():
        for row in rows:
            key = f"{name}/{row.id}"
            seen[key] = seen.get(key, 0) + 1
            again = "" if seen[key] == 1 else f"#{seen[key]}"
            mixture.append(replace(row, id=row.id + again, extra=row.extra | {"bucket": name}))
    return mixture
