"""The commands about single checkpoints, outside the pipeline: `dacsm import-cdtrans` and `dacsm predict`."""

import argparse
from pathlib import Path

from dacsm.cli.options import Commands, add_compute, add_params, add_workers, compute_of, whole_from


def add_checkpoint_commands(commands: Commands) -> None:
    """Add both commands to the command line's."""
    entry = commands.add_parser(
        "import-cdtrans",
        help="make a checkpoint of ours from one of the public CDTrans",
        description="Make a checkpoint of ours from one that the public CDTrans program wrote; nothing in it is run.",
    )
    entry.add_argument("file", metavar="FILE", type=Path, help="a .pth of CDTrans, source-only or adapted")
    entry.add_argument("--out", metavar="FILE", type=Path, required=True, help="such as model.safetensors")
    entry.add_argument("--dataset", metavar="NAME", help="a file of workflow/datasets, for the names of the classes")
    entry.add_argument("--classes", metavar="FILE", type=Path, help="or a text file, a class name a line")
    entry.add_argument("--model", metavar="NAME", help="small, base or a timm model; else the DeiT of that width")
    entry.add_argument(
        "--heads", metavar="N", type=whole_from(1), help="attention heads, where the model does not tell"
    )
    add_params(entry)
    entry.set_defaults(command=_import_cdtrans)

    entry = commands.add_parser(
        "predict",
        help="classify pictures with a checkpoint",
        description="Classify pictures: a line each, with path, class and probability, and tabs between.",
    )
    entry.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a model.safetensors of ours")
    entry.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="a picture, or a folder with pictures")
    entry.add_argument("--top", metavar="N", type=whole_from(1), default=1, help="how many classes to name, best first")
    entry.add_argument("--json", action="store_true", help="a JSON object a line")
    add_compute(entry)
    add_workers(entry)
    entry.set_defaults(command=_predict)


def _import_cdtrans(args: argparse.Namespace) -> None:
    from dacsm.config.datasets import load_dataset
    from dacsm.config.params import load_params
    from dacsm.models.import_cdtrans import class_names, import_cdtrans

    dataset = recipe = None
    if args.dataset is not None:
        dataset = load_dataset(args.dataset)
        settings = load_params(args.params).pretrain.get(dataset.name)
        recipe = None if settings is None else settings.model
    description = import_cdtrans(
        args.file,
        args.out,
        dataset=dataset,
        model=args.model,
        heads=args.heads,
        classes=None if args.classes is None else class_names(args.classes),
        recipe=recipe,
    )
    model = description.model
    print(
        f"{args.out}: {model.name}, {model.dim} channels wide, {model.depth} blocks, {model.heads} heads, "
        f"images of {model.image_size} pixels, {len(description.classes)} classes"
    )


def _predict(args: argparse.Namespace) -> None:
    from dacsm.evaluation.classify import classify, print_classified

    print_classified(classify(args.checkpoint, args.paths, args.top, compute_of(args)), args.json)
