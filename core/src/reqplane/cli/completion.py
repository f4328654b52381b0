"""`reqplane completion`: scripts that let a shell complete commands and options.

They are made from the argument parser, so they know what the command line knows.  Each script walks along
the words that are typed already, from command to command, and offers what may come after the last one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from reqplane.cli.arguments import Commands, add_command

_PROGRAM = "reqplane"


@dataclass(frozen=True, slots=True)
class Place:
    """A command (`path`: "reqplane demo"), what may follow it, and what may follow its options."""

    path: str
    commands: dict[str, str]
    words: dict[str, str]
    values: dict[str, tuple[str, ...]]


def add_parser(commands: Commands, whole: argparse.ArgumentParser) -> None:
    """`whole` is the parser of the command line."""
    parser = add_command(
        commands,
        "completion",
        lambda arguments: run(arguments, whole),
        summary="print a script by which a shell completes this command",
        example="reqplane completion bash > ~/.local/share/bash-completion/completions/reqplane",
    )
    parser.add_argument("shell", choices=list(_SCRIPTS), help="whose script")


def run(arguments: Any, whole: argparse.ArgumentParser) -> int:
    print(_SCRIPTS[arguments.shell](list(places(whole, _PROGRAM))))
    return 0


# ── what there is ───────────────────────────────────────────────────────────────────────────────────


# argparse shows its actions to nobody else, so what follows looks at private names of it.
# pyright: reportPrivateUsage=false


def places(parser: argparse.ArgumentParser, path: str) -> Iterator[Place]:
    """This command, then those below it."""
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    branches = [cast(Commands, one) for one in actions if isinstance(one, argparse._SubParsersAction)]
    options = [action for action in actions if action.option_strings]
    commands = {one.dest: one.help or "" for branch in branches for one in branch._choices_actions}
    words = dict(commands)
    values: dict[str, tuple[str, ...]] = {}
    for option in options:
        words |= dict.fromkeys(option.option_strings, option.help or "")
        if option.nargs != 0:
            values |= dict.fromkeys(option.option_strings, _choices(option))
    for argument in actions:
        if argument not in options and argument not in branches:
            words |= dict.fromkeys(_choices(argument), argument.help or "")
    yield Place(path, commands, words, values)
    for branch in branches:
        for name, below in branch.choices.items():
            yield from places(below, f"{path} {name}")


def _choices(action: argparse.Action) -> tuple[str, ...]:
    return tuple(map(str, action.choices or ()))


# ── scripts: what is the same for all programs, then what goes into it ──────────────────────────────

_BASH = r"""
# bash completion for reqplane
_reqplane() {
    local place="reqplane" words="" at
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$place:${COMP_WORDS[at]}" in
@STEPS@
        esac
    done
    case "$place" in
@OFFERS@
    esac
    case "$place:$before" in
@VALUES@
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _reqplane reqplane
"""

_ZSH = r"""
#compdef reqplane
_reqplane() {
    local place="reqplane" word value=""
    local -a offers values
    for word in "${(@)words[2,CURRENT-1]}"; do
        case "$place:$word" in
@STEPS@
        esac
    done
    case "$place" in
@OFFERS@
    esac
    case "$place:${words[CURRENT-1]}" in
@VALUES@
    esac
    if [[ -z "$value" ]]; then
        _describe reqplane offers || _files
    elif (( $#values )); then
        compadd -a values
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == "_reqplane" ]]; then
    _reqplane "$@"
else
    compdef _reqplane reqplane
fi
"""

_FISH = r"""
# fish completion for reqplane
function __reqplane_place
    set -l place reqplane
    for word in (commandline -opc)[2..-1]
        switch "$place:$word"
@STEPS@
        end
    end
    echo $place
end
@OFFERS@
"""


def _steps(found: list[Place], form: str) -> str:
    """From which command which word leads to which."""
    steps = [(place.path, name) for place in found for name in place.commands]
    return "\n".join(form.format(path=path, word=word) for path, word in steps)


def _bash(found: list[Place]) -> str:
    offers = [f'        "{place.path}") words="{" ".join(place.words)}" ;;' for place in found]
    values = [f'        "{at}") words="{" ".join(choices)}" ;;' for at, choices in _values(found)]
    return _filled(_BASH, _steps(found, _CASE), offers, values)


def _zsh(found: list[Place]) -> str:
    offers = [f'        "{place.path}") offers=({_described(place)}) ;;' for place in found]
    values = [f'        "{at}") values=({" ".join(choices)}); value=1 ;;' for at, choices in _values(found)]
    return _filled(_ZSH, _steps(found, _CASE), offers, values)


def _fish(found: list[Place]) -> str:
    steps = _steps(found, '            case "{path}:{word}"\n                set place "{path} {word}"')
    offers = [_fish_offer(place, word) for place in found for word in place.words]
    return _filled(_FISH, steps, offers, [])


_CASE = '            "{path}:{word}") place="{path} {word}" ;;'


def _filled(script: str, steps: str, offers: list[str], values: list[str]) -> str:
    script = script.replace("@STEPS@", steps).replace("@OFFERS@", "\n".join(offers))
    return script.replace("@VALUES@", "\n".join(values)).strip()


def _values(found: list[Place]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for place in found:
        for option, choices in place.values.items():
            yield f"{place.path}:{option}", choices


def _described(place: Place) -> str:
    return " ".join(_quoted(f"{word}:{text}" if text else word) for word, text in place.words.items())


def _fish_offer(place: Place, word: str) -> str:
    kind = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" if word[0] == "-" else f"-a {word}"
    line = f"complete -c reqplane -n 'test (__reqplane_place) = \"{place.path}\"' {kind}"
    if word in place.values:
        line += f" -x -a {_quoted(' '.join(place.values[word]))}"
    return f"{line} -d {_quoted(place.words[word])}" if place.words[word] else line


def _quoted(text: str) -> str:
    """For all three shells, which differ in how a quote is written within quotes: without any."""
    return "'" + text.replace("\\", "").replace("'", "") + "'"


_SCRIPTS: dict[str, Callable[[list[Place]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
