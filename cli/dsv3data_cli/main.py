"""Entry point of `dsv3data`: the group of commands, and how failures become exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys

import click

from dsv3data import __version__
from dsv3data.contracts.errors import Dsv3DataError, EnvironmentFault
from dsv3data.contracts.terminal import printable
from dsv3data.stages.stopping import stop_on_signals
from dsv3data_cli.commands.demo import demo
from dsv3data_cli.commands.doctor import doctor
from dsv3data_cli.commands.evaluate import evaluate
from dsv3data_cli.commands.export import export
from dsv3data_cli.commands.fidelity import fidelity
from dsv3data_cli.commands.generate import generate
from dsv3data_cli.commands.inspect import inspect
from dsv3data_cli.commands.pack import pack
from dsv3data_cli.commands.progress import progress
from dsv3data_cli.commands.report import report as set_report
from dsv3data_cli.commands.tokenize import tokenize
from dsv3data_cli.commands.tokenizer import tokenizer
from dsv3data_cli.commands.tokenizer_report import report as tokenizer_report
from dsv3data_cli.commands.trace import trace
from dsv3data_cli.commands.train import train
from dsv3data_cli.commands.verify import verify
from dsv3data_cli.options import InOrder

_INTERRUPTED = 75
_BUG = 1


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dsv3data")
def cli() -> None:
    """DeepSeek-V3's data pipeline and the training that consumes it.

    \b
    documents → tokenizer train → tokenize → pack → train
    Try it on this machine's own files:  dsv3data demo --out runs/demo

    \b
    Exit codes: 0 done · 2 usage · 3 bad input or config · 4 integrity ·
    5 environment · 6 done, too many rejected · 75 stopped, run again
    """


tokenizer.add_command(tokenizer_report)
for command in (
    demo,
    doctor,
    tokenizer,
    tokenize,
    pack,
    progress,
    verify,
    inspect,
    trace,
    set_report,
    export,
    train,
    generate,
    evaluate,
    fidelity,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with the code of what happened."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    code = run(sys.argv[1:])
    gc.freeze()  # else the interpreter walks all that is left before it ends: a tenth of a second
    sys.exit(code)


def _open_standard_streams() -> None:
    """What the caller closed (`>&-`) goes nowhere. Else the next file that is opened gets its
    number, and messages of foreign code would be written into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def run(arguments: list[str]) -> int:
    """The exit code of a command line. An unexpected exception is a bug and shows its traceback."""
    try:
        with stop_on_signals():
            code = cli.main(arguments, prog_name="dsv3data", standalone_mode=False)
            sys.stdout.flush()
    except Dsv3DataError as error:
        return _report(error)
    except MemoryError:
        return _report(_out_of_memory())
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped: nothing unfinished has a final name; run again to continue", err=True)
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of our output has gone (`| head`), which click turns into SystemExit. Keep the
        # interpreter from flushing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        return _report(_refused_by_system(error))
    return int(code or 0)  # of `context.exit`; commands themselves return nothing


def _report(error: Dsv3DataError) -> int:
    # Names of files and columns may be hostile.
    click.echo(printable(str(error)), err=True)
    return error.exit_code


def _refused_by_system(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"the operating system refused: {error.strerror}",
        where=str(error.filename or "this machine"),
        effect="all finished units are kept; nothing unfinished has a final name",
        fix="check that the file is there and that you may use it, and run the same command again",
    )


def _out_of_memory() -> EnvironmentFault:
    return EnvironmentFault(
        "the process ran out of memory",
        where="this machine",
        effect="all finished units are kept; nothing unfinished has a final name",
        fix="use fewer --workers or smaller units, and run the same command again",
    )
