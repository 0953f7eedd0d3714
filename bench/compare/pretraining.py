"""One pretraining of a comparison, executed in a process of its own (`bench.jobs.run_all`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PretrainingRun:
    """Description of a pretraining: everything that its process needs."""

    key: str
    """Name of the submission."""
    folder: Path
    """Folder for the log and the lock."""
    recipe_file: Path
    """File with the recipe, as `Recipe.to_dict` writes it."""
    method_file: Path | None
    """File of the method if it is the user's own, else None."""
    seed: int
    images: Path
    init: Path | None
    """Folder of the exported backbone to start from."""
    out: Path
    """The run's folder; its export is in `export` below it."""

    @property
    def log(self) -> Path:
        """File with what the pretraining printed."""
        return self.folder / "run.log"

    @property
    def exported(self) -> Path:
        """Folder in which the backbone will be."""
        return self.out / "export"


def pretrain_and_export(run: PretrainingRun, threads: int) -> None:
    """Pretrain, from the last checkpoint if there is one, and export the backbone."""
    import torch

    from pretrain.data.batches import open_images
    from pretrain.export import export
    from pretrain.outside import find_written
    from pretrain.run.train import train

    torch.set_num_threads(threads)
    recipe = find_written(run.recipe_file, run.method_file)
    train(recipe, open_images(run.images), run.out, seed=run.seed, init=run.init, resume=True)
    export(run.out, run.exported, name=run.key)
