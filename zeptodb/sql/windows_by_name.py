"""Named windows (`OVER w ... WINDOW w AS (...)`) spelled out where they are used."""

from __future__ import annotations

from sqlglot import exp

_PARTS = ("partition_by", "order", "spec")


def spell_out(select: exp.Select) -> None:
    """Replace `OVER w` by the definition of w, so that every window says what it is; the definitions go."""
    definitions = {window.this.name.lower(): window for window in select.args.get("windows") or ()}
    if not definitions:
        return
    for window in list(select.find_all(exp.Window)):
        if window.find_ancestor(exp.Select) is select and not isinstance(window.this, exp.Identifier):
            _merge(window, definitions)
    select.set("windows", None)


def _merge(window: exp.Expr, definitions: dict[str, exp.Expr]) -> None:
    """Take over what the window's name, and the name in its definition, and so on, stand for."""
    seen: set[str] = set()
    alias = window.args.get("alias")
    while alias is not None and alias.name.lower() in definitions and alias.name.lower() not in seen:
        seen.add(alias.name.lower())
        definition = definitions[alias.name.lower()]
        for part in _PARTS:
            own, given = window.args.get(part), definition.args.get(part)
            if own or not given:
                continue
            window.set(part, [node.copy() for node in given] if isinstance(given, list) else given.copy())
        alias = definition.args.get("alias")
        window.set("alias", alias.copy() if alias is not None else None)
