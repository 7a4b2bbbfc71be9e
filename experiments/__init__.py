"""Experiments, one question each: `python -m experiments.NAME --help`."""

import io
import os
import sys


class _Output(io.FileIO):
    """Standard output that `| head` may close: what an experiment writes to its folder is wanted all the same."""

    def write(self, data, /):  # type: ignore[no-untyped-def]
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


if sys.argv[:1] == ["-m"]:  # Python sets this while it looks for the module that it will run
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's own need not be installed where its commands run
    if sys.stdout is not None:
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(sys.stdout.fileno(), "w", closefd=False)),
            sys.stdout.encoding,
            sys.stdout.errors,
            line_buffering=sys.stdout.line_buffering,
        )
