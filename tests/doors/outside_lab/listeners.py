"""A listener that keeps a diary."""

from medvq.train.listener import EpochListener


class Diary(EpochListener):
    """Writes a line for every epoch, and one at the end."""

    def on_epoch(self, epoch):
        """Write the epoch and its validation loss."""
        self._write(epoch.folder, f"{epoch.epoch} of {epoch.epochs}: {epoch.metrics['val/loss']!r}")

    def on_end(self, end):
        """Write how it ended."""
        self._write(end.folder, f"{end.run} is {end.outcome}")

    def _write(self, folder, line):
        with open(folder / "logs" / "diary.txt", "a") as file:
            file.write(line + "\n")
