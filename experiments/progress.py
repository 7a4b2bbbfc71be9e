"""How far a training is: a bar, or plain lines where the output is no terminal."""

import math
import sys
import time

from tqdm import tqdm


class Progress:
    """A bar with loss, accuracy, images per second and time left; ten plain lines where the output is no terminal."""

    def __init__(self, done: int, steps: int, batch_size: int, quiet: bool) -> None:
        self.steps, self.batch_size, self.quiet = steps, batch_size, quiet
        self.terminal = not quiet and sys.stderr is not None and sys.stderr.isatty()
        tqdm.monitor_interval = 0  # else it starts a thread that stays
        self.bar = tqdm(
            initial=done * batch_size,
            total=steps * batch_size,
            disable=not self.terminal,
            unit=" images",
            unit_scale=True,
            leave=False,
            mininterval=0.2,
        )
        self.begun, self.first, self.done = time.perf_counter(), done, done
        self.loss, self.accuracy = math.nan, 0.0

    def step(self, loss: float, accuracy: float) -> None:
        """Count one step; loss and accuracy are shown as running means."""
        self.done += 1
        mix = max(0.02, 1 / (self.done - self.first))
        self.loss = loss if math.isnan(self.loss) else self.loss + mix * (loss - self.loss)
        self.accuracy += mix * (accuracy - self.accuracy)
        if self.terminal:
            self.bar.set_postfix_str(f"loss {self.loss:.4f}, accuracy {self.accuracy:.2%}", refresh=False)
            self.bar.update(self.batch_size)
        elif not self.quiet and self.done % max(1, self.steps // 10) == 0:
            rate = (self.done - self.first) / (time.perf_counter() - self.begun)
            print(
                f"step {self.done:6d} of {self.steps}  loss {self.loss:.4f}  accuracy {self.accuracy:7.2%}  "
                f"{rate * self.batch_size:,.0f} images/s  {(self.steps - self.done) / rate:.0f} s left",
                flush=True,
            )

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self.terminal:
            self.bar.write(line)
        elif not self.quiet:
            print(line, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
