"""`zeptodb keys`: making, listing and revoking the keys of a server."""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

ROLES = ("admin", "writer", "reader")
DEFAULT_FILE = Path("zeptodb_keys.json")


def add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    keys = commands.add_parser(
        "keys",
        help="create, list and revoke the keys of a server",
        description="Keys are shown once, when they are created; the file keeps only their hashes.",
    )
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it")
    create.add_argument("--role", required=True, choices=ROLES, help="what it may do")
    create.add_argument("--name", help="by which it is listed and revoked (default: made up)")
    create.add_argument("--tables", help="the only tables it may touch, separated by commas (default: all)")
    create.add_argument("--expires", metavar="WHEN", help="a duration such as 90d or 12h, or a date (default: never)")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="names, roles, tables and dates; no key")
    listing.set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="make a key invalid, also for a running server")
    revoke.add_argument("name")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, revoke):
        action.add_argument(
            "--keys", type=Path, default=DEFAULT_FILE, metavar="FILE", help=f"file of keys (default {DEFAULT_FILE})"
        )


def _create(options: argparse.Namespace) -> int:
    from zeptodb.server.keys import create_key

    tables = None if options.tables is None else [name.strip() for name in options.tables.split(",") if name.strip()]
    print(create_key(options.keys, role=options.role, name=options.name, tables=tables, expires=options.expires))
    return 0


def _list(options: argparse.Namespace) -> int:
    from zeptodb.server.keys import read_keys

    now = dt.datetime.now(dt.UTC)
    for key in read_keys(options.keys):
        expires = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M} UTC"
        expired = " (expired)" if key.is_expired(now) else ""
        tables = "all tables" if key.tables is None else ", ".join(key.tables)
        print(f"{key.name}\t{key.role}\t{tables}\tcreated {key.created:%Y-%m-%d}\texpires {expires}{expired}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from zeptodb.server.keys import revoke_key

    revoke_key(options.keys, options.name)
    print(f"revoked {options.name}")
    return 0
