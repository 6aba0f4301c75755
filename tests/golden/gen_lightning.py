#!/usr/bin/env python3
"""Makes the Lightning golden with the pytorch_lightning at hand: gen_lightning.py FOLDER.

lightning.ckpt is what Trainer.save_checkpoint writes after three steps of Adam with a schedule and
hyper-parameters; torch reads it back for what is expected.
"""

import logging
import pathlib
import sys
import types
import warnings

try:
    import torch.utils.tensorboard
except Exception:  # Lightning 1 imports a logger that is not used here
    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = board.hparams = object
    sys.modules["torch.utils.tensorboard"] = sys.modules["torch.utils.tensorboard.summary"] = board

import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402

import gen_torch  # noqa: E402


class Tiny(pl.LightningModule):
    def __init__(self, lr=0.01, sizes=(3, 2), name="tiny"):
        super().__init__()
        self.save_hyperparameters()
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))

    def training_step(self, batch, index):
        return self.model(batch[0]).pow(2).sum()

    def lr_scheduler_step(self, scheduler, *more):  # Lightning 1 knows no schedule of torch 2
        scheduler.step()

    def configure_optimizers(self):
        opt = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return [opt], [torch.optim.lr_scheduler.StepLR(opt, 2)]


def main(folder):
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(29)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(12, 3)), 4)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
                         enable_model_summary=False, enable_checkpointing=False)
    trainer.fit(Tiny(), data)
    trainer.save_checkpoint(out / "lightning.ckpt")
    back = torch.load(out / "lightning.ckpt", weights_only=False)
    gen_torch.MADE_BY = f"pytorch_lightning {pl.__version__}, {gen_torch.MADE_BY}"
    gen_torch.describe(out / "lightning.ckpt", back)


if __name__ == "__main__":
    main(sys.argv[1])
