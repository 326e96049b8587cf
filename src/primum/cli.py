"""The `primum` command: each room registers its own verbs."""

import argparse
import os
import sys
from collections.abc import Sequence

from primum import __version__, doctor
from primum.alignment.trust import commands as trust
from primum.bench import commands as bench
from primum.benchmarks import commands as benchmarks
from primum.benchmarks import governance_commands as governance
from primum.checkpoints import commands as checkpoints
from primum.entry.quiet import hush
from primum.errors import UserError
from primum.judges import commands as judges
from primum.language import commands as language
from primum.parsing import commands as parsing
from primum.segmentation import commands as segmentation

ROOMS = (
    checkpoints,
    trust,
    language,
    judges,
    benchmarks,
    governance,
    bench,
    parsing,
    segmentation,
    doctor,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run one command; mistakes of the user exit with 2."""
    parser = argparse.ArgumentParser(
        prog="primum",
        description="Training and evaluation are `python train.py` and `python evaluate.py`;"
        " these commands stand beside them.",
    )
    parser.add_argument("--version", action="version", version=f"primum {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for room in ROOMS:
        room.register(commands)
    chosen = parser.parse_args(arguments)
    hush()
    try:
        return chosen.run(chosen) or 0
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"primum: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `primum ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
