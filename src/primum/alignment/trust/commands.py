"""`primum trust`: who said what of which training row, and which checkpoint learned it."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from primum.alignment.trust.keys import Key
    from primum.alignment.trust.store import Store

STORE, KEY = "PRIMUM_TRUST", "PRIMUM_TRUST_KEY"
EXAMPLES = """examples:
  primum trust init
  primum trust key -o ~/keys/r-17.pem --reviewer r-17 --role physician
  primum trust enrol ~/keys/r-17.pem.pub
  primum trust import answers.jsonl --dataset ward-qa --licence CC-BY-4.0 --bucket knowledge
  primum trust assign --reviewers r-17,r-23 --overlap 0.2 -o reviews/
  primum trust collect review-r-17.json --key ~/keys/r-17.pem
  primum trust view sft -o sft.jsonl          python train.py +experiment=... data=trust
  primum trust seal --key ~/keys/board.pem -o /elsewhere/seal.json
  primum trust verify --seal /elsewhere/seal.json
  primum trust lineage --record ID            primum trust erase ID --reason "consent withdrawn"
"""


def register(subparsers: Any) -> None:
    """Add `trust` and its verbs to the `primum` command."""
    group = subparsers.add_parser(
        "trust",
        help="the log of who reviewed which training row, and its evidence",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        parser = verbs.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        parser.add_argument(
            "--store",
            metavar="DIR",
            default=os.environ.get(STORE, "trust"),
            help=f"the trust store (default: ${STORE}, else ./trust)",
        )
        parser.set_defaults(run=run)
        return parser

    verb("init", _init, "make an empty store")
    one = verb("key", _key, "make a reviewer's key; FILE.pub is the half to hand over")
    one.add_argument("-o", "--output", metavar="FILE", required=True)
    one.add_argument("--reviewer", required=True, metavar="PSEUDONYM")
    one.add_argument("--role", required=True, help="physician, nurse, pharmacist, ethicist, ...")
    one = verb("enrol", _enrol, "let reviewers sign: their .pub files, or a reviewers.json")
    one.add_argument("public", nargs="+", metavar="FILE")
    _import_verb(verb)
    one = verb("show", _show, "what the store holds, or all that was said of one record")
    one.add_argument("record", nargs="?", metavar="ID")
    one = verb("view", _view, "write a training set as a function of the log")
    one.add_argument("name", metavar="VIEW", help="sft, pref_pairs, kto, grpo_prompts, ...")
    one.add_argument("-o", "--output", required=True, metavar="FILE")
    one.add_argument("--admit", choices=("decided", "scored", "any"), default="decided")
    one.add_argument("--signed-only", action="store_true", help="only signed events count")
    _strike_options(one)
    one = verb("strikes", _strikes, "records held back until a panel decides")
    _strike_options(one)
    one = verb("assign", _assign, "deal undecided rows among reviewers and write their pages")
    one.add_argument("--reviewers", required=True, metavar="A,B")
    one.add_argument("--overlap", type=float, default=0.2, help="share two reviewers get")
    one.add_argument("--limit", type=int, metavar="N")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("-o", "--output", metavar="DIR", default="reviews")
    one = verb("sign", _sign, "sign a page's export on the reviewer's own machine")
    one.add_argument("file")
    one.add_argument("--key", required=True)
    one.add_argument("-o", "--output", required=True, metavar="FILE")
    one = verb("collect", _collect, "append a review: a page's export, or what `sign` made of it")
    one.add_argument("file", nargs="+")
    one.add_argument("--key", help="the reviewer's; without it the review is unattributed")
    one = verb("decide", _decide, "accept, reject or escalate a record")
    one.add_argument("record", metavar="ID")
    one.add_argument("verdict", choices=("accepted", "rejected", "escalated"))
    one.add_argument("--panel", action="store_true", help="the decision is a panel's")
    one.add_argument("--cell", action="store_true", help="it clears its whole cell of strikes")
    one.add_argument("--reason")
    _actor(one)
    one = verb("revoke", _revoke, "take a record out of every view; its words stay")
    one.add_argument("record", metavar="ID")
    one.add_argument("--reason", required=True)
    _actor(one)
    one = verb("erase", _erase, "destroy a record's words, here and in what was made of them")
    one.add_argument("record", metavar="ID")
    one.add_argument("--reason", required=True, help="is kept in the log for good")
    one.add_argument("--search", nargs="+", metavar="DIR", help="results, caches and reports")
    one.add_argument("--json", metavar="FILE", help="also write what was done")
    _actor(one)
    one = verb("merge", _merge, "append what another copy of the store has beyond this one")
    one.add_argument("other", metavar="STORE")
    one.add_argument("--escalate", action="store_true", help="leave conflicts to a panel")
    one.add_argument("--search", nargs="+", metavar="DIR", default=[])
    _actor(one)
    one = verb("seal", _seal, "sign head and count, to be kept elsewhere")
    one.add_argument("--key", default=os.environ.get(KEY), help=f"(default: ${KEY})")
    one.add_argument("-o", "--output", metavar="FILE", help="another copy")
    one = verb("verify", _verify, "is the log whole? Exits with 1 and names the first bad line")
    one.add_argument("--seal", nargs="+", default=[], metavar="FILE", help="kept elsewhere")
    one.add_argument("--by", metavar="HEX", help="the public key the seals must be signed with")
    one = verb("lineage", _lineage, "which checkpoints learned from a record, or what one learned")
    which = one.add_mutually_exclusive_group()
    which.add_argument("--record", metavar="ID")
    which.add_argument("--checkpoint", metavar="PATH", help="exits with 1 if rows are gone since")
    one.add_argument("--runs", nargs="+", default=[], metavar="DIR")
    one = verb("reviewers", _reviewers, "who reviewed what")
    one.add_argument("--json", action="store_true")
    one = verb("bundle", _bundle, "evidence in one file, with a verifier that needs only Python")
    one.add_argument("-o", "--output", metavar="FILE", default="evidence.zip")
    one.add_argument("--reports", nargs="+", default=[], metavar="PATH")
    one.add_argument("--runs", nargs="+", default=[], metavar="DIR")


def _import_verb(verb: Any) -> None:
    one = verb("import", _import, "rows from conversation files, edits or Label Studio")
    one.add_argument("file")
    one.add_argument(
        "--format",
        default="auto",
        help="auto, edits, label_studio, or one of `primum data preview`",
    )
    for name, said in (
        ("dataset", "its name (default: the file's)"),
        ("split", "train, test, ..."),
        ("licence", "of the rows"),
        ("bucket", "knowledge, guard or ethic"),
        ("kind", "unsafe or benign"),
        ("lang", "language tag"),
        ("generator", "the model that wrote the answers"),
    ):
        one.add_argument(f"--{name}", help=said)
    one.add_argument("--role", default="physician", help="of Label Studio's annotators")
    _actor(one)


def _strike_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--strikes", type=int, default=5, help="failures that call a panel")
    one.add_argument("--scope", choices=("record", "generator", "cell"), default="cell")


def _actor(one: argparse.ArgumentParser) -> None:
    one.add_argument("--key", default=os.environ.get(KEY), help=f"sign with it (default: ${KEY})")


def _opened(arguments: argparse.Namespace) -> Store:
    from primum.alignment.trust.store import Store

    return Store(arguments.store)


def _who(arguments: argparse.Namespace) -> dict[str, str] | Key:
    from primum.alignment.trust.keys import read_key

    return read_key(arguments.key) if arguments.key else {"id": "curator", "role": "curator"}


def _policy(arguments: argparse.Namespace) -> Any:
    from primum.alignment.trust.strikes import StrikePolicy

    return StrikePolicy(arguments.strikes, arguments.scope)


def _say(*words: Any) -> None:
    print(*words, sep="\n")


def _init(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.store import Store

    _say(f"made {Store.create(arguments.store).path}; next: primum trust import FILE")


def _key(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.keys import new_key, public_file

    key = new_key(arguments.output, arguments.reviewer, arguments.role)
    _say(
        f"key of {key.reviewer} ({key.role}): keep it to yourself",
        f"to hand over: {public_file(arguments.output)}",
    )


def _enrol(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.keys import read_public

    store = _opened(arguments)
    rows = [row for file in arguments.public for row in read_public(file)]
    for row in rows:
        store.register.add(row)
    _say(*(f"{row['reviewer']} ({row['role']}) may sign" for row in rows))


def _import(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust import importing
    from primum.alignment.trust.keys import read_key
    from primum.errors import UserError

    store = _opened(arguments)
    key = read_key(arguments.key) if arguments.key else None
    if arguments.format == "edits":
        done = importing.import_edits(store, arguments.file, key)
    elif arguments.format == "label_studio":
        done = importing.import_label_studio(store, arguments.file, arguments.role, key)
    else:
        given = importing.known_origin(Path(arguments.file), arguments.format)
        names = ("dataset", "split", "licence", "bucket", "kind", "lang", "generator")
        given |= {name: value for name in names if (value := getattr(arguments, name)) is not None}
        missing = [name for name in ("licence", "bucket") if name not in given]
        if missing:
            raise UserError(
                f"Nothing says the {' and the '.join(missing)} of these rows",
                file=arguments.file,
                remedy=" ".join(f"--{name} ..." for name in missing),
            )
        origin = importing.Origin(**given)
        done = importing.import_rows(store, arguments.file, origin, arguments.format, key)
    _say(
        f"{done.created} records, {done.scores} scores and {done.edits} edits added; "
        f"{done.known} rows were there already"
    )


def _show(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.records import records
    from primum.alignment.trust.reviewers import summary
    from primum.errors import UserError

    store = _opened(arguments)
    if arguments.record is None:
        for name, value in summary(store, records(store)).items():
            print(f"{name.replace('_', ' '):14} {value}")
        return
    if arguments.record not in store.records:
        raise UserError(f"There is no record {arguments.record}", file=store.path)
    payloads = store.payloads(arguments.record)
    for event in store.events:
        if event.record == arguments.record:
            signed = "signed" if event.signature else "unsigned"
            who = f"{event.actor['id']} ({event.actor['role']}), {signed}"
            print(f"{event.seq:6}  {event.ts}  {event.event:8}  {who}")
            said = payloads.get(event.commitment)
            if said is not None:
                print(json.dumps(said, indent=2, ensure_ascii=False))


def _view(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.views import Selection, write_view

    selection = Selection(arguments.admit, arguments.signed_only, strikes=_policy(arguments))
    rows = write_view(_opened(arguments), arguments.name, arguments.output, selection)
    _say(f"{rows} rows in {arguments.output}")


def _strikes(arguments: argparse.Namespace) -> int:
    from primum.alignment.trust.records import records
    from primum.alignment.trust.strikes import frozen

    held = frozen(records(_opened(arguments)), _policy(arguments))
    for key, ids in held.items():
        name = " on ".join(key) if isinstance(key, tuple) else str(key)
        _say(f"{name}: {len(ids)} records wait for a panel", *(f"  {one}" for one in ids))
    if not held:
        _say("no record is held back")
    return 1 if held else 0


def _assign(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.review import assign

    pages = assign(
        _opened(arguments),
        arguments.reviewers.split(","),
        arguments.output,
        overlap=arguments.overlap,
        limit=arguments.limit,
        seed=arguments.seed,
    )
    _say(*(f"{name}: {path}" for name, path in pages.items()))
    _say("each opens in any browser; its export goes to: primum trust collect FILE --key KEY")


def _sign(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.keys import read_key
    from primum.alignment.trust.review import sign

    count = sign(arguments.file, read_key(arguments.key), arguments.output)
    _say(f"{count} signed statements in {arguments.output}")


def _collect(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.keys import read_key
    from primum.alignment.trust.review import collect, read_review

    key = read_key(arguments.key) if arguments.key else None
    store = _opened(arguments)
    for file in arguments.file:
        done = collect(store, read_review(file, key))
        _say(f"{file}: {done.events} events added, {done.known} were there already")
        for record in done.stale:
            _say(f"  {record}: the text changed after the page was made; look at it again")


def _decide(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.events import state
    from primum.alignment.trust.records import records
    from primum.errors import UserError

    store = _opened(arguments)
    record = records(store).get(arguments.record)
    if record is None:
        raise UserError(f"There is no record {arguments.record}", file=store.path)
    payload = {
        "verdict": arguments.verdict,
        "text_sha256": record.now.sha256,
        "panel": arguments.panel,
        "covers": "cell" if arguments.cell else "record",
    }
    payload |= {"reason": arguments.reason} if arguments.reason else {}
    (event,) = store.append([state("decision", record.id, payload, _who(arguments))])
    _say(f"{record.id}: {arguments.verdict}, event {event.seq}")


def _revoke(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.events import state

    store = _opened(arguments)
    said = state("revoke", arguments.record, {"reason": arguments.reason}, _who(arguments))
    store.append([said])
    _say(f"{arguments.record} is in no view any more")
    _tell_checkpoints(store, arguments.record, [])


def _tell_checkpoints(store: Store, record: str, roots: list[str]) -> None:
    from primum.alignment.trust.lineage import who_saw

    found, gone = who_saw(store, record, roots)
    for one in found:
        times = one.saw[record]
        _say(f"learned from it {times} time{'s' * (times > 1)}: {one.path} (run {one.run.id})")
    for run in gone:
        _say(f"learned from it, and its weights are not here: run {run.id}, {run.folder}")
    if not found and not gone:
        _say("no training run that the store was told of learned from it")


def _erase(arguments: argparse.Namespace) -> int:
    from primum.alignment.trust.erase import erase
    from primum.alignment.trust.verify import verify
    from primum.files import atomic_write

    store = _opened(arguments)
    roots = arguments.search or (["outputs"] if Path("outputs").is_dir() else [])
    done = erase(store, arguments.record, arguments.reason, _who(arguments), roots)
    _say(*(f"erased {one}" for one in done.records))
    _say(*(f"{kind}: {path}: {what}" for kind, path, what in done.holders))
    for one in done.checkpoints:
        _say(f"checkpoint that learned from it: {one.path} (run {one.run.id})")
    for run in done.runs:
        _say(f"run that learned from it, weights not here: {run.id}, {run.folder}")
    if done.alike:
        _say("other records hold much of its words; erase them too if they are of the same person:")
    for name, share in sorted(done.alike.items(), key=lambda one: -one[1]):
        _say(f"  {name}: {share:.0%} of them")
    if arguments.json:
        facts = {
            "records": done.records,
            "holders": [[kind, str(path), what] for kind, path, what in done.holders],
            "checkpoints": [str(one.path) for one in done.checkpoints],
            "runs": [run.id for run in done.runs],
            "left": [str(path) for path in done.left],
            "alike": done.alike,
        }
        atomic_write(arguments.json, json.dumps(facts, indent=1) + "\n")
    verdict = verify(store.path)
    _say(verdict)
    return 1 if done.left or not verdict.whole else 0


def _merge(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.merge import merge
    from primum.alignment.trust.store import Store

    done = merge(
        _opened(arguments),
        Store(arguments.other),
        _who(arguments),
        arguments.escalate,
        arguments.search,
    )
    _say(f"{done.common} events in common, {done.taken} taken over")
    _say(*(f"to a panel: {one.record}: {one.what}" for one in done.conflicts))


def _seal(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.keys import read_key
    from primum.alignment.trust.sealing import seal
    from primum.errors import UserError
    from primum.files import atomic_write

    if not arguments.key:
        raise UserError("A seal needs a key", remedy="--key FILE; make one with primum trust key")
    path, content = seal(_opened(arguments), read_key(arguments.key))
    if arguments.output:
        atomic_write(arguments.output, path.read_bytes())
    _say(
        f"sealed {content['count']} events, head {content['head'][:16]}, with {content['public']}",
        f"keep it elsewhere: {arguments.output or path}",
    )


def _verify(arguments: argparse.Namespace) -> int:
    from primum.alignment.trust.verify import verify

    verdict = verify(arguments.store, arguments.seal, arguments.by)
    _say(verdict, *verdict.notes)
    if verdict.whole and not arguments.seal:
        _say("without a seal kept elsewhere, a cut tail or a whole rewrite would not show")
    return 0 if verdict.whole else 1


def _lineage(arguments: argparse.Namespace) -> int:
    from primum.alignment.trust.lineage import lineage_of, runs, unwanted

    store = _opened(arguments)
    if arguments.record:
        _tell_checkpoints(store, arguments.record, arguments.runs)
        return 0
    if arguments.checkpoint is None:
        for run in runs(store, arguments.runs):
            gone = unwanted(store, run.saw())
            _say(f"{run.header['name']} {run.id}: {len(run.saw())} rows, {len(gone)} gone since")
        return 0
    one = lineage_of(store, arguments.checkpoint, arguments.runs)
    gone = unwanted(store, one.saw)
    _say(f"{one.path} learned from {len(one.saw)} rows of head {one.run.header['head'][:16]}")
    _say(*(f"  {why} since: {row}" for row, why in sorted(gone.items())))
    if not gone:
        _say("none of them was revoked or erased since")
    return 1 if gone else 0


def _reviewers(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.records import records
    from primum.alignment.trust.reviewers import who_reviewed

    rows = who_reviewed(records(_opened(arguments)))
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    from primum.metrics.score import Score

    table = Table()
    for title in ("reviewer", "role", "rows", "scores", "edits", "decisions", "dates"):
        table.add_column(title)
    for title in ("signed", "scored twice", "equal values", "open vetoes"):
        table.add_column(title, justify="right")
    for row in rows:
        double = row["double_scored"]
        table.add_row(
            *(str(row[name]) for name in ("reviewer", "role", "rows")),
            *(str(row[name]) for name in ("scores", "edits", "decisions")),
            f"{row['first'][:10]} to {row['last'][:10]}",
            f"{row['signed']:.0%}",
            "-" if double is None else f"{double:.0%}",
            str(Score.from_dict(row["agreement"])) if row["agreement"]["n"] else "-",
            str(row["open_vetoes"]),
        )
    console = Console()
    Console(width=None if console.is_terminal else 140).print(table)


def _bundle(arguments: argparse.Namespace) -> None:
    from primum.alignment.trust.bundle import bundle

    names = bundle(_opened(arguments), arguments.output, arguments.reports, arguments.runs)
    _say(f"{len(names)} files in {arguments.output}; unpack it and run: python verify.py")
