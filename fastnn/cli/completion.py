"""`fastnn completion`: what a shell runs to complete fastnn's commands, options and names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from fastnn.console import say

SHELLS = ("bash", "zsh", "fish")

# The words are written out: a script that asked fastnn itself would wait for its imports at every key.
BASH = """\
# bash completion of fastnn; in ~/.bashrc: eval "$(fastnn completion bash)"
_fastnn() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in -*) ;; *) command=${{COMP_WORDS[i]}}; break ;; esac
    done
    COMPREPLY=()
    case "$command $before" in
{values}
    esac
    case $command in
{options}
    esac
}}
complete -o default -F _fastnn fastnn
"""
ZSH = """\
#compdef fastnn
# zsh completion of fastnn; in ~/.zshrc, after compinit: eval "$(fastnn completion zsh)"
_fastnn() {{
    local -a commands
    commands=(
{commands}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local chosen=$words[2]
    shift words
    ((CURRENT--))
    case $chosen in
{options}
    esac
}}
compdef _fastnn fastnn
"""


def add_commands(commands: Any, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """`whole` makes the parser of the whole command."""
    parser = commands.add_parser(
        "completion",
        help="print what makes a shell complete fastnn's words",
        description='Prints a script. bash: eval "$(fastnn completion bash)" in ~/.bashrc; zsh: the same with zsh in '
        "~/.zshrc, after compinit; fish: fastnn completion fish > ~/.config/fish/completions/fastnn.fish",
    )
    parser.set_defaults(run=lambda arguments: run(arguments, whole()))
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    say(script(parser, arguments.shell))
    return 0


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell, of a parser whose subcommands may have subcommands of their own."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser)


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Each subcommand's parser and help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (sub, helps.get(name, "")) for name, sub in action.choices.items()}
    return {}


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, list[str]]]:
    """Each option, with the words that it takes, as far as they are known."""
    for action in parser._actions:
        if action.option_strings:
            yield action, list(map(str, action.choices or ()))


def _positionals(parser: argparse.ArgumentParser) -> list[str]:
    """The words that may stand without an option."""
    return [str(c) for action in parser._actions if not action.option_strings for c in action.choices or ()]


def _said(action: argparse.Action) -> str:
    """Its help in a line, of letters that no shell takes for its own."""
    text = (action.help or "").replace("%%", "%")
    return "".join(c if c.isalnum() or c in " ,.-/%" else " " for c in text)


def _bash(parser: argparse.ArgumentParser) -> str:
    values, options = [], []
    for name, (sub, _) in {"": (parser, ""), **_subparsers(parser)}.items():
        words = [word for action, _ in _options(sub) for word in action.option_strings] + _positionals(sub)
        options.append(f'    "{name}") COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")) ;;')
        for action, choices in _options(sub):
            patterns = "|".join(f'"{name} {option}"' for option in action.option_strings)
            if choices:
                values.append(f'    {patterns}) COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$word")); return ;;')
            elif action.nargs != 0:
                values.append(f"    {patterns}) return ;;")  # a file, or a number
    return BASH.format(values="\n".join(values), options="\n".join(options))


def _zsh(parser: argparse.ArgumentParser) -> str:
    commands, options = [], []
    for name, (sub, text) in _subparsers(parser).items():
        commands.append(f"        '{name}:{text.replace(chr(39), '').replace(':', ' ')}'")
        specs = []
        for action, choices in _options(sub):
            taken = f":{action.dest}:({' '.join(choices)})" if choices else f":{action.dest}:_files"
            for option in action.option_strings:
                specs.append(f"'{option}[{_said(action)}]{'' if action.nargs == 0 else taken}'")
        words = _positionals(sub)
        specs.append(f"'*:argument:({' '.join(words)})'" if words else "'*:file:_files'")
        options.append(f"    {name}) _arguments " + " ".join(specs) + " ;;")
    return ZSH.format(commands="\n".join(commands), options="\n".join(options))


def _fish(parser: argparse.ArgumentParser) -> str:
    lines = ["# fish completion of fastnn: fastnn completion fish > ~/.config/fish/completions/fastnn.fish"]
    for name, (sub, text) in {"": (parser, ""), **_subparsers(parser)}.items():
        when = f"__fish_seen_subcommand_from {name}" if name else "__fish_use_subcommand"
        if name:
            said = text.replace("'", "")
            lines.append(f"complete -c fastnn -n __fish_use_subcommand -f -a {name} -d '{said}'")
            words = _positionals(sub)
            if words:
                lines.append(f"complete -c fastnn -n '{when}' -f -a '{' '.join(words)}'")
        for action, choices in _options(sub):
            kinds = [f"-l {o[2:]}" if o.startswith("--") else f"-s {o[1:]}" for o in action.option_strings]
            taken = f" -x -a '{' '.join(choices)}'" if choices else "" if action.nargs == 0 else " -r"
            lines.append(f"complete -c fastnn -n '{when}' {' '.join(kinds)}{taken} -d '{_said(action)}'")
    return "\n".join(lines) + "\n"
