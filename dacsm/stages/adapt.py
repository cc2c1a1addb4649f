"""Stage: adaptation from a source to a target domain, by a method of any kind.

The target's labels are never read: not for training, and not for choosing an epoch.
"""

from dacsm.adaptation.history import AdaptationHistory
from dacsm.config.project import Project
from dacsm.data.domains import Domains, open_domains
from dacsm.data.seeding import seed_torch
from dacsm.evaluation.outputs import sample_outputs
from dacsm.evaluation.predictions import accuracy, predict
from dacsm.methods import Method, load_kind
from dacsm.models.arithmetic import choose_arithmetic
from dacsm.models.classifier import load_checkpoint, require_parts
from dacsm.models.compiling import choose_compiling
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import first as first_process
from dacsm.runtime.progress import TrainingProgress, training_progress
from dacsm.runtime.resume import Generators, Resume
from dacsm.runtime.together import in_parts
from dacsm.training.learner import Learner
from dacsm.training.loss_log import LossLog


def adapt(
    project: Project, method: str, task: str, seed: int, compute: Compute, resume: Resume | None = None
) -> dict[str, float]:
    """Adapt a source model to the target; writes both checkpoints, log.csv and epochs.npz.

    Goes on from what `resume` has of a run that was killed. Returns what was measured, for the run's record. Raises
    InputError for shards, checkpoints or settings that cannot be used, or a loss that is not a number.
    """
    params, dataset, paths = project.params, project.dataset, project.paths
    source, _target = dataset.split_task(task)
    recipe, settings = params.adaptation(dataset.name, method), params.method(method)
    choose_arithmetic(recipe.arithmetic, recipe.threads)
    choose_compiling(recipe.compile)
    classifier = load_checkpoint(paths.pretrained(dataset.name, source, seed) / "model.safetensors", compute.device)
    require_parts(classifier)
    domains = _domains(project, method, task, classifier.description.model.resize)
    seed_torch(seed, "adapt", dataset.name, task)
    adaptation = load_kind(settings.kind)(classifier, recipe, settings, domains, seed, compute)
    learner = Learner(recipe, classifier, adaptation.modules, compute)
    history = AdaptationHistory(recipe.validator)
    resume = resume or Resume()
    with training_progress(f"adapt {dataset.name} {method} {task} seed {seed}", recipe.epochs) as progress, resume:
        first = resume.start(progress, history=history, method=adaptation, **learner.parts)
        for epoch in range(first, recipe.epochs + 1):
            if (epoch - 1) % adaptation.refresh_epochs == 0 and not resume.inside_epoch:
                adaptation.refresh(epoch, learner.evaluated, progress)
            losses = _train_epoch(adaptation, learner, epoch, progress, resume)
            target = predict(learner.evaluated, domains.target, compute, recipe.precision, keep=recipe.features)
            with in_parts(recipe.batch_size):
                row = {**losses, **adaptation.end_epoch(epoch, target)}
            held_out = domains.source, domains.source_labels, domains.held_out
            # For mypy: a kind without a source keeps nothing out, and no image is read
            source_accuracy = accuracy(learner.evaluated, *held_out, compute, recipe.precision)  # type: ignore[arg-type]
            if first_process():  # the others need not know which epoch is the best
                outputs = sample_outputs(epoch, target, source_accuracy)
                history.add(target.predicted, adaptation.pseudo_labels, outputs, row, learner.evaluated.state_dict())
            progress.end_epoch(epoch, losses, adaptation.remark)
            resume.end_epoch(epoch)
    if first_process():
        folder = paths.adapted(dataset.name, method, task, seed)
        history.write(folder, classifier.description, learner.evaluated.state_dict(), adaptation.tensors())
    return progress.measured


def _domains(project: Project, method: str, task: str, size: int) -> Domains:
    """The domains of a task as far as the method reads them, in images of `size` pixels."""
    params, dataset, paths = project.params, project.dataset, project.paths
    source, target = (paths.shards(dataset.name, domain) for domain in dataset.split_task(task))
    fraction = params.recipe("pretrain", dataset.name).held_out
    domains = open_domains(source if params.method(method).source_data else None, target, fraction, size)
    if params.adaptation(dataset.name, method).validator == "source_accuracy" and not len(domains.held_out):
        raise InputError(
            f"params.yaml: adapt.recipes.{dataset.name}.validator is source_accuracy, but pretrain.{dataset.name}."
            "held_out is 0, or the method reads no source data; hold some of the source out, or name another validator."
        )
    return domains


def _train_epoch(
    adaptation: Method, learner: Learner, epoch: int, progress: TrainingProgress, resume: Resume
) -> dict[str, float]:
    """The steps of an epoch that are still to be done; the mean of each loss over all of it."""
    recipe, domains = learner.recipe, 2 if adaptation.settings.source_data else 1
    learner.classifier.train()
    log = LossLog(epoch)
    done = resume.start_epoch(losses=log, generators=Generators(learner.compute.device))
    batches, steps = adaptation.batches(epoch, done)
    progress.start_epoch(epoch, steps, done)
    for step, batch in enumerate(batches, done):
        with in_parts(recipe.batch_size):
            losses, total = adaptation.losses(batch, (epoch - 1 + step / steps) / recipe.epochs)
        learner.step(total, epoch, step / steps)
        log.append(losses)
        progress.step(domains * recipe.batch_size, log.latest)
        resume.end_step(epoch, step + 1, steps)
    return log.means()
