"""The page of all commands, from the parsers of the command line."""

import argparse

from dacsm.cli.main import DESCRIPTION, command_line

HEAD = f"""# Commands

This page is made from the command line itself; `dacsm COMMAND --help` says the same.

{DESCRIPTION}

A command ends with exit code 0. It ends with 2 where the input cannot be used: one sentence on stderr says what is
wrong, and what to do.
"""


def commands_page() -> str:
    """The page, a section for each command."""
    parser = command_line()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return "\n".join([HEAD, *(_section(name, commands.choices[name]) for name in commands.choices)])


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    rows = [_row(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    table = ["| argument | meaning | default |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {name}", "", parser.description or "", "", "```text", usage, "```", "", *table, ""])


def _row(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    shown = [f"{option} {value}".strip() for option in action.option_strings] or [str(value)]
    if action.required and action.option_strings:
        default = "required"
    else:
        default = "" if action.default in (None, False, argparse.SUPPRESS, []) else f"`{action.default}`"
    name = ", ".join(f"`{one}`" for one in shown)
    return f"| {name} | {(action.help or '').replace('|', '&#124;')} | {default} |"
