"""Adaptation by CDTrans, and by what the settings add to it.

The parts that settings may add are imported where they are used, so that a method depends on its own parts alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import lcm
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.pairing import agreeing_pairs, centre_labels, nearest_over_scales
from dacsm.config.kinds.cdtrans import Settings
from dacsm.data.seeding import torch_generator
from dacsm.data.stream import load_steps
from dacsm.data.transforms import normalise, train_views
from dacsm.evaluation.predictions import Predictions, predict
from dacsm.methods import Method
from dacsm.methods.cdtrans.batches import Batch, Steps, epoch_order, few_pairs
from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.methods.cdtrans.matches import Matches
from dacsm.models.classifier import Classifier
from dacsm.models.precision import autocast
from dacsm.models.three_stream import three_stream
from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import count
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.together import of_first


class CDTrans(Method):
    """Pairs of source and target images that agree in label, through three streams of a Vision Transformer."""

    settings: Settings

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.parts = self.settings.parts
        self.matches = Matches()
        self.noise = self.masking = None
        self.last_batch: Batch | None = None  # on which the gain of the noise is measured
        if not self.classifier.plain:
            raise InputError(
                "methods of kind cdtrans ask for a plain Vision Transformer with a class token alone, but the source "
                f"model is {self.classifier.description.model.name}; pretrain one such as deit_small_patch16_224."
            )
        if self.settings.attention_dropout and count() > 1:
            raise InputError(
                f"{count()} processes make this run, but attention_dropout is {self.settings.attention_dropout}, which "
                "each would draw for itself; set the dataset's gpus under resources to 1."
            )
        if "noise" in self.parts:
            from dacsm.methods.cdtrans.parts.noise import BeneficialNoise

            generator = torch_generator(self.compute.device, self.seed, "noise")
            self.noise = BeneficialNoise(self.classifier, self.settings, generator).to(self.compute.device)
            self.modules = (self.noise,)
        if "masking" in self.parts:
            from dacsm.methods.cdtrans.parts.masking import MaskedConsistency

            self.masking = MaskedConsistency(self.classifier, self.settings.masking)

    @property
    def pseudo_labels(self) -> Tensor | None:  # type: ignore[override]  # nobody sets it here
        return self.matches.pseudo_labels

    @property
    def remark(self) -> str:  # type: ignore[override]
        return f"{len(self.matches.pairs)} pairs"

    def refresh(self, epoch: int, model: Classifier, progress: TrainingProgress) -> None:
        """New pseudo labels, and pairs of nearest neighbours whose labels agree."""
        matches, domains, device = self.matches, self.domains, self.compute.device
        see = partial(predict, model, compute=self.compute, precision=self.recipe.precision, keep=self.recipe.features)
        target = matches.predictions or see(domains.target)
        source = see(domains.source, indices=domains.training.numpy())
        labels = domains.source_labels[domains.training]
        if "matching" in self.parts:
            from dacsm.methods.cdtrans.parts.matching import match_scales

            at_scale, settings = partial(see, domains.target), self.settings.matching
            found = match_scales(target, at_scale, source, labels, settings, epoch, device)
            scales, pseudo_labels, soft_targets = found.scales, found.pseudo_labels, found.soft_targets
            matches.reverse = found.reverse
        else:
            scales, pseudo_labels = [target], centre_labels(target.features, target.logits)
            soft_targets = F.log_softmax(target.logits, dim=1)
        neighbours = nearest_over_scales(source.features, [seen.features for seen in scales], device)
        # For mypy: there are two neighbours
        pairs = agreeing_pairs(*(index.cpu() for index in neighbours), labels, pseudo_labels)  # type: ignore[call-arg]
        pairs, pseudo_labels, soft_targets = of_first((pairs, pseudo_labels, soft_targets))
        if not len(pairs) and matches.pairs is None:
            raise InputError(
                "no source image and its nearest target image agree in label, so that there is no pair to adapt on; "
                "pretrain longer, or look whether source and target have the same classes."
            )
        if len(pairs):
            matches.pairs = pairs.with_source(domains.training.numpy())
        if remark := few_pairs(len(pairs), len(matches.pairs), self.recipe):
            progress.note(epoch, remark)
        matches.pseudo_labels, matches.predictions = pseudo_labels, None
        matches.soft_targets = soft_targets if {"consistency", "masking"} & {*self.parts} else None

    def batches(self, epoch: int, start: int) -> tuple[Iterator[Batch], int]:
        """Batches of pairs in a new order and with new views."""
        model, recipe, pairs = self.classifier.description.model, self.recipe, self.matches.pairs
        order = epoch_order(len(pairs), recipe, self.seed, epoch)
        views = partial(train_views, model, recipe.augment, len(order), self.seed, epoch)
        of_epoch = (self.domains.target, model, recipe, self.seed, epoch, len(order) // recipe.batch_size)
        beside: dict[str, Any] = {}
        if "consistency" in self.parts:
            from dacsm.methods.cdtrans.parts.consistency import scale_views

            beside["at_scale"] = scale_views(self.settings.consistency, *of_epoch)
        if self.masking is not None:
            beside["to_mask"] = self.masking.views(*of_epoch)
        both, soft_targets = (views("source"), views("target")), self.matches.soft_targets
        steps = Steps(self.domains, *both, pairs, order, recipe.batch_size, beside, soft_targets)
        return map(self._batch, load_steps(steps, start, self.compute)), len(steps)

    def _batch(self, step: list[Any]) -> Batch:
        """What `Steps` makes of a step, normalised and on the device."""

        def moved(part: Tensor) -> Tensor:
            return part.to(self.compute.device, non_blocking=True)

        model, (source, target, labels, pseudo_labels, beside) = self.classifier.description.model, step

        def part_of(views: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
            return normalise(moved(views), model), *map(moved, others)

        images = (normalise(moved(views), model) for views in (source, target))
        parts = {part: found and part_of(*found) for part, found in beside.items()}
        # For mypy: there are two images, and parts have fields of their names
        return Batch(*images, moved(labels), moved(pseudo_labels), **parts)  # type: ignore[call-arg]

    def losses(self, batch: Batch, passed: float) -> tuple[dict[str, Tensor], Tensor]:
        """CDTrans' three losses, each of weight 1, and those of the parts."""
        settings, precision = self.settings, autocast(self.compute.device, self.recipe.precision)
        if self.noise is not None:
            self.noise.progress, self.last_batch = passed, batch
        with precision:
            streams = three_stream(self.classifier, batch.source, batch.target, self.noise, patches=False)
        losses = cdtrans_losses(streams, batch.labels, batch.pseudo_labels, settings.teacher_detached)
        total = losses["source"] + losses["target"] + losses["distillation"]
        added: dict[str, tuple[float, Tensor]] = {}
        if settings.mix_cross_entropy:
            added["mix"] = settings.mix_cross_entropy, F.cross_entropy(streams.mix_logits, batch.labels)
        if self.noise is not None and (divergence := self.noise.divergence()) is not None:
            added["noise_divergence"] = settings.noise.divergence, divergence
        if "pyramid" in self.parts:
            from dacsm.methods.cdtrans.parts.pyramid import pyramid_loss

            loss = pyramid_loss(streams.source_patches, streams.target_patches, settings.pyramid)
            added["pyramid"] = settings.pyramid.weight, loss
        if batch.at_scale is not None:
            from dacsm.methods.cdtrans.parts.consistency import scale_loss

            with precision:
                loss = scale_loss(self.classifier, *batch.at_scale)
            added["consistency"] = settings.consistency.weight, loss
        if self.masking is not None:
            self.masking.follow(self.classifier)
            if batch.to_mask is not None:
                with precision:
                    added["masking"] = settings.masking.weight, self.masking.loss(self.classifier, *batch.to_mask)
        for name, (weight, loss) in added.items():
            losses[name] = loss
            total = total + weight * loss
        return losses, total

    def end_epoch(self, epoch: int, target: Predictions) -> dict[str, float]:
        """How strong the noise is in each layer and what it gains, and the number of pairs."""
        self.matches.predictions = target if epoch % self.recipe.refresh_epochs == 0 else None
        row = {}
        if self.noise is not None:
            row = {f"noise_{layer}": strength for layer, strength in enumerate(self.noise.strengths(), 1)}
            row["noise_gain"] = self.noise.gain(self.classifier, self.last_batch)
        return {**row, **self.matches.reverse, "pairs": len(self.matches.pairs)}

    def tensors(self) -> dict[str, Tensor]:
        """The noise."""
        return {} if self.noise is None else self.noise.state_dict()

    def state_dict(self) -> dict[str, Any]:
        noise = None
        if self.noise is not None:
            noise = {"tensors": self.noise.state_dict(), "generator": self.noise.generator.get_state()}
        masking = self.masking and self.masking.state_dict()
        return {"matches": self.matches.state_dict(), "noise": noise, "masking": masking}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.matches.load_state_dict(state["matches"])
        if self.noise is not None:
            self.noise.load_state_dict(state["noise"]["tensors"])
            self.noise.generator.set_state(state["noise"]["generator"])
        if self.masking is not None:
            self.masking.load_state_dict(state["masking"])

    def made_up_batches(self, size: int) -> list[Batch]:
        """Of random images: the parts' views come at every so many steps, from the first on."""
        description, device = self.classifier.description, self.compute.device
        model, classes = description.model, len(description.classes)
        source, target, views = torch.randn(3, size, model.channels, model.image_size, model.image_size, device=device)
        labels = torch.arange(size, device=device) % classes
        plain = Batch(source, target, labels, labels)
        soft_targets = torch.zeros(size, classes, device=device).log_softmax(dim=1)
        every: dict[str, int] = {}
        beside: dict[str, Any] = {}
        if "consistency" in self.parts:
            every["at_scale"], beside["at_scale"] = self.settings.consistency.every, (views, soft_targets)
        if "masking" in self.parts:
            blocks = self.settings.masking.blocks
            keep = torch.arange(blocks**2, device=device).view(1, 1, blocks, blocks).expand(size, -1, -1, -1) % 4 == 0
            every["to_mask"], beside["to_mask"] = self.settings.masking.every, (views, soft_targets, keep)
        return [
            replace(plain, **{part: found for part, found in beside.items() if step % every[part] == 0})
            for step in range(lcm(*every.values()))
        ]
